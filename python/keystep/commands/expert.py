"""keystep expert"""

from __future__ import annotations


def main(
    tasks: tuple[str, ...] = (),
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    env: str = "keystep/Franka3Blocks-v1",
) -> None:
    """Success of the scripted expert on Franka-3Blocks.

    Args:
        tasks: names; all when empty.
        episodes: per task, on the seeds `seed` .. `seed` + episodes - 1.
        seed: first seed.
        processes: simulators run in parallel.
        env: Franka-3Blocks in ManiSkill, or keystep/Franka3Blocks-bullet in PyBullet.
    """
    from keystep.suites.franka3blocks import TASKS
    from keystep.suites.franka3blocks.expert_report import evaluate_expert, print_report

    print_report(evaluate_expert(tasks or tuple(TASKS), episodes, seed, processes, env))
