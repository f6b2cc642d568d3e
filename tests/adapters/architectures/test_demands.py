from adapters.architectures.demands import Demand


def test_a_demand_reads_nested_members_and_accepts_what_is_absent():
    demand = Demand("rope.kind", ("plain",), "because")
    assert demand.unmet({}) is demand.unmet({"rope": None}) is demand.unmet({"rope": {"kind": "plain"}}) is None
    assert demand.unmet({"rope": {"kind": "odd"}}) == "rope.kind is 'odd': because"
    alike = Demand("narrow", (), "because", like="wide")
    assert alike.unmet({"narrow": 4, "wide": 4}) is None
    assert alike.unmet({"narrow": 4, "wide": 8}) == "narrow is 4: because"
