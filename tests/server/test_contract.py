"""The API against its own OpenAPI document: whatever is sent, the answer is one that the document names."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from tests.server.conftest import Served

_ENDLESS = "/v1/events"


def test_every_answer_is_as_the_document_says(served: Served) -> None:
    schema = schemathesis.openapi.from_dict(served.app.openapi()).exclude(path=_ENDLESS)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25

    def send(case: Case) -> None:
        wanted = case.as_transport_kwargs(
            base_url="https://drover", headers={"Authorization": f"Bearer {served.secrets['boss']}"}
        )
        if isinstance(body := wanted.pop("data", None), str | bytes):
            wanted["content"] = body
        wanted.pop("cookies", None)
        # Who is let in is tested in test_api; a text may be as the document wants it and still be no plan; of a
        # parameter that comes twice the last one counts.
        excluded = [ignored_auth, positive_data_acceptance, negative_data_rejection]
        case.validate_response(served.client.request(**wanted), excluded_checks=excluded)

    for operation in operations:
        print(operation.label)
        every = operation.as_strategy()
        if operation.query or operation.body:
            every |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        examples = settings(
            max_examples=15, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
        )  # fmt: skip
        examples(given(case=every)(send))()
