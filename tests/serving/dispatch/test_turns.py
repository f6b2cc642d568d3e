"""Gateways that take turns, whatever the order in which they ask and whoever dies."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.dispatch.turns import Turns
from tests.serving.virtual_time import run


@dataclass
class Ring:
    """Gateways whose claims take a while to reach each other; the dead answer nothing."""

    lags: list[float] = field(default_factory=lambda: [0.01])
    members: dict[str, Turns] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)
    had: list[str] = field(default_factory=list)

    def join(self, name: str) -> Turns:
        self.members[name] = Turns(self, name=name)
        return self.members[name]

    async def claim(self, claim):
        async def ask(number, member):
            await asyncio.sleep(self.lags[(claim.stamp + number) % len(self.lags)])
            await member.consent(claim)

        others = [member for name, member in self.members.items() if name != claim.gateway]
        await asyncio.gather(*(ask(number, member) for number, member in enumerate(others)))
        return frozenset(claim.strikes)

    async def tell(self, news):
        raise AssertionError("turns tell nothing")

    async def work(self, name: str, seconds: float = 0.1) -> None:
        async with self.members[name].turn({name: frozenset()}) as abroad:
            assert abroad == {name}
            self.inside.append(name)
            assert self.inside == [name], "two at a time"
            await asyncio.sleep(seconds)
            self.inside.remove(name)
            self.had.append(name)


def test_a_gateway_alone_has_its_turn_at_once():
    async def main():
        ring = Ring()
        ring.join("a")
        await ring.work("a")
        await ring.work("a")
        assert ring.had == ["a", "a"]

    run(main())


def test_who_asks_first_goes_first():
    async def main():
        ring = Ring()
        for name in "cab":
            ring.join(name)
        tasks = []
        for name in "bca":
            tasks.append(asyncio.create_task(ring.work(name)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        assert ring.had == ["b", "c", "a"]

    run(main())


def test_a_gateway_that_comes_up_while_one_is_inside_waits():
    async def main():
        ring = Ring()
        for name in "bc":
            ring.join(name)
        await ring.work("c")
        task = asyncio.create_task(ring.work("c", 5.0))
        await asyncio.sleep(1.0)
        ring.join("a")  # its first claim ranks before every one that it has not heard of
        await ring.work("a")
        assert ring.had == ["c", "c", "a"]
        await task

    run(main())


def test_a_turn_that_fails_is_over():
    async def main():
        ring = Ring()
        one, _ = ring.join("a"), ring.join("b")
        with pytest.raises(ValueError, match="bug"):
            async with one.turn({}):
                raise ValueError("bug")
        await ring.work("b")
        await ring.work("a")
        assert ring.had == ["b", "a"]

    run(main())


def test_a_claim_that_is_given_up_holds_nobody_back():
    async def main():
        ring = Ring(lags=[1.0])
        ring.join("a")
        ring.join("b")
        task = asyncio.create_task(ring.work("a"))
        await asyncio.sleep(0.5)
        task.cancel()
        await ring.work("b")
        assert ring.had == ["b"]

    run(main())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 2), st.floats(0, 0.5)), max_size=12),
    st.lists(st.floats(0.001, 0.3), min_size=1, max_size=5),
)
def test_never_two_at_a_time_and_everybody_once(jobs, lags):
    async def main():
        ring = Ring(lags)
        for name in "abcd":
            ring.join(name)
        queues = {name: [job for job in jobs if job[0] == name] for name in "abcd"}

        async def gateway(name):  # one claim at a time, as the quarantine makes them
            for _, pause, seconds in queues[name]:
                await asyncio.sleep(pause)
                await ring.work(name, seconds)

        await asyncio.gather(*(gateway(name) for name in "abcd"))
        assert sorted(ring.had) == sorted(name for name, _, _ in jobs)

    run(main())
