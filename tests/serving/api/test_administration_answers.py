import subprocess
import sys

from serving.api.administration_answers import audited_answer, tenant_answer
from serving.registry.records import AuditEntry, Quota, Tenant


def test_a_tenant_is_told_with_its_whole_quota():
    quota = Quota(weight=2.0, requests_per_s=3.0, nbytes=4, device_floor=5)
    told = tenant_answer(Tenant("acme", quota, 0.0, 7))
    assert Quota(**told["quota"]) == quota
    assert (told["name"], told["created"], told["revision"]) == ("acme", "1970-01-01T00:00:00.000Z", 7)


def test_an_audit_row_says_whose_it_is_and_what_was_before():
    row = AuditEntry(0.0, "k1", "acme", "alias", "a@prod", "", "adapter", "a", '{"version":1}', "", "req_1", 9)
    told = audited_answer(row)
    assert (told["tenant"], told["before"], told["after"], told["sequence"]) == ("acme", {"version": 1}, None, 9)


def test_a_client_needs_no_web_framework_for_them():
    code = "import sys, serving.api.administration_answers; assert 'fastapi' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
