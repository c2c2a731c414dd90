"""Two threads in one policy: each is told of its own call, or that another is inside."""

from __future__ import annotations

import threading

import numpy as np

import keystep


def test_each_thread_is_told_of_its_own_call(make_stub, observation):
    policy = make_stub()
    policy.reset(task="lift_red")
    told: list[set[str]] = [set(), set()]

    def tick(place: int) -> None:
        spoiled = {"observation.state": observation["observation.state"].copy()}
        spoiled["observation.state"][place] = np.nan
        for _ in range(3000):
            try:
                policy.act(observation | spoiled)
            except keystep.PolicyError as error:
                told[place].add(str(error) if error.status == "bad_observation" else error.status)

    threads = [threading.Thread(target=tick, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, said in enumerate(told):
        (own,) = said - {"busy"}
        assert own.startswith(f"observation.state[{place}]")
