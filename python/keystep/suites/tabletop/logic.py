"""How predicates are combined. Every part sees every step, so that those with a memory miss nothing."""

from __future__ import annotations

from keystep.suites.tabletop.scenario import Predicate, World


class All:
    """All hold in the same step."""

    def __init__(self, *parts: Predicate) -> None:
        self.parts = parts

    def begin(self, world: World) -> None:
        for part in self.parts:
            part.begin(world)

    def update(self, world: World) -> bool:
        return all([part.update(world) for part in self.parts])


class Any(All):
    """At least one holds."""

    def update(self, world: World) -> bool:
        return any([part.update(world) for part in self.parts])


class Order(All):
    """Each has held once, in this order; at most one counts per step."""

    def begin(self, world: World) -> None:
        super().begin(world)
        self._done = 0

    def update(self, world: World) -> bool:
        holds = [part.update(world) for part in self.parts]
        if self._done < len(holds) and holds[self._done]:
            self._done += 1
        return self._done == len(holds)


class Once(Order):
    """It has held at some time: an order of one."""

    def __init__(self, part: Predicate) -> None:
        super().__init__(part)


class Not(All):
    """It does not hold."""

    def __init__(self, part: Predicate) -> None:
        super().__init__(part)

    def update(self, world: World) -> bool:
        return not super().update(world)
