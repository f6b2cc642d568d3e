"""Random lives of tickets in the loop, whose machine computes on its thread or by itself."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.scheduler.batcher import Budget
from tests.serving.scheduler.machine import SIZE, ref, ticket
from tests.serving.scheduler.test_loop import Bench


class ExactlyOnce(RuleBasedStateMachine):
    """Random lives of tickets: at the end every one was answered once."""

    overlaps = False

    def __init__(self):
        super().__init__()
        self.bench = Bench(room=3, budget=Budget(3, 24, 2 * SIZE), max_queued=12)
        self.bench.machine.overlaps = self.overlaps
        self.sent = []
        self.answers = []
        self.closed = False

    @rule(
        tenant=st.sampled_from("ab"),
        adapters=st.lists(st.sampled_from("uvwxyz"), max_size=2, unique=True),
        tokens=st.integers(1, 40),
        deadline=st.sampled_from([500.0, 5_000.0, 60_000.0]),
        fate=st.sampled_from(["ok", "ok", "ok", "poison", "leaving"]),
        count=st.integers(1, 5),
    )
    def submit(self, tenant, adapters, tokens, deadline, fate, count):
        names = [f"t{len(self.sent) + i}" for i in range(count)]
        self.sent += names
        if fate == "poison":
            self.bench.machine.poison.add(names[0])
        if fate == "leaving":
            self.bench.machine.leaving.add(names[0])
        self.bench.loop.submit([ticket(n, tenant, adapters, tokens, deadline) for n in names], self.answers.append)

    @rule()
    def turn(self):
        self.bench.loop.turn()

    @rule(count=st.integers(1, 3))
    def load(self, count):
        self.bench.machine.load(count)

    @rule(seconds=st.sampled_from([0.1, 1.0]))
    def wait(self, seconds):
        self.bench.clock.now += seconds

    @rule(name=st.sampled_from("uvwxyz"))
    def break_adapter(self, name):
        self.bench.machine.broken ^= {ref(name, "a"), ref(name, "b")}

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def cancel(self, data):
        self.bench.loop.cancel([data.draw(st.sampled_from(self.sent))])

    @invariant()
    def nobody_is_answered_twice(self):
        names = [reply.ticket for group in self.answers for reply in group]
        assert len(names) == len(set(names))
        queued, running = self.bench.loop.load
        assert running == sum(len(step.rows) for step in self.bench.machine.running)
        assert len(self.bench.machine.running) <= self.overlaps
        assert len(names) + queued + running == len(self.sent)
        assert self.bench.loop.check() == ()

    def teardown(self):
        self.bench.machine.broken.clear()
        self.bench.machine.room = 12  # all there are: the fake brings sets in piece by piece, and may do so for ever
        for _ in range(400):
            self.bench.loop.turn()
            self.bench.machine.load(1)
        names = [reply.ticket for group in self.answers for reply in group]
        assert sorted(names) == sorted(self.sent)


class ExactlyOnceByItself(ExactlyOnce):
    """The same of a machine in which the next batch is begun while one computes."""

    overlaps = True


ExactlyOnce.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
ExactlyOnceByItself.TestCase.settings = ExactlyOnce.TestCase.settings
TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnceByItself = ExactlyOnceByItself.TestCase
