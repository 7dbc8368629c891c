"""Uses every route through the client that was generated from the document. Arguments: where it is, and the server's URL."""

import sys

sys.path.insert(0, sys.argv[1])

from pairdb_client import Client  # noqa: E402
from pairdb_client.api.admin import add, list_, remove, status  # noqa: E402
from pairdb_client.api.health import health, health_ready, live, ready  # noqa: E402
from pairdb_client.api.key_value import delete, read, write  # noqa: E402
from pairdb_client.api.tenants import create, get, set_sibling_limits, update_replication_factor  # noqa: E402
from pairdb_client.models import (  # noqa: E402
    Add,
    Create,
    DeleteConsistency,
    Error,
    Factor,
    ReadValueAs,
    SiblingLimits,
    WriteBytes,
    WriteValue,
)

client = Client(base_url=sys.argv[2], raise_on_unexpected_status=True)


def is_error(answer, code):
    assert isinstance(answer, Error) and answer.error_code == code, answer


for probe in (health, live, ready, health_ready):
    assert probe.sync(client=client).status in ("alive", "ready"), probe

created = create.sync(client=client, body=Create(tenant_id="generated", replication_factor=3, conflict_policy="siblings"))
assert (created.tenant_id, created.replication_factor) == ("generated", 3), created
is_error(create.sync(client=client, body=Create(tenant_id="generated")), "TENANT_EXISTS")
limits = set_sibling_limits.sync("generated", client=client, body=SiblingLimits(warn=2, max_=4))
assert limits.sibling_limits.max_ == 4, limits
assert get.sync("generated", client=client).conflict_policy == "siblings"
is_error(get.sync("nobody", client=client), "TENANT_NOT_FOUND")
changed = update_replication_factor.sync("generated", client=client, body=Factor(replication_factor=3))
assert changed.new_replication_factor == 3, changed

# Values of every kind, as they were written.
for value, as_json in [("text", "text"), ({"a": [1, None, True]}, {"a": [1, None, True]}), (42, 42), (None, None)]:
    answer = write.sync(
        client=client,
        body=WriteValue(tenant_id="default", key="k", value=value, consistency="all"),
        x_request_timeout="20s",
    )
    assert answer.replica_count == 3 and answer.vector_clock.additional_properties, answer
    found = read.sync(client=client, tenant_id="default", key="k", value_as=ReadValueAs.JSON, context=answer.context)
    assert found.value == as_json, found
assert read.sync(client=client, tenant_id="default", key="k").value_encoding == "text"

once = dict(client=client, body=WriteBytes(tenant_id="default", key="k", value_base64="AP8="), idempotency_key="i1")
assert write.sync(**once).is_duplicate is False
assert write.sync(**once).is_duplicate is True
found = read.sync(client=client, tenant_id="default", key="k")
assert (found.value, found.value_encoding) == ("AP8=", "base64"), found
conflict = write.sync(client=client, body=WriteValue(tenant_id="default", key="k", value="other"), idempotency_key="i1")
is_error(conflict, "IDEMPOTENCY_KEY_CONFLICT")

for value in ("a", "b"):
    write.sync(client=client, body=WriteValue(tenant_id="generated", key="s", value=value))
found = read.sync(client=client, tenant_id="generated", key="s")
assert [sibling.value for sibling in found.siblings] == ["b", "a"], found
deleted = delete.sync(
    client=client, tenant_id="generated", key="s", consistency=DeleteConsistency.QUORUM, context=found.context
)
assert deleted.status == "success", deleted
is_error(read.sync(client=client, tenant_id="generated", key="s"), "KEY_NOT_FOUND")
is_error(read.sync(client=client, tenant_id="default", key="k", context="AAAA"), "INVALID_REQUEST")

nodes = list_.sync(client=client).nodes
assert len(nodes) == 3 and all(node.reachable for node in nodes), nodes
is_error(remove.sync(nodes[0].node_id, client=client, force=False), "NODE_IN_USE")
is_error(add.sync(client=client, body=Add(node_id=nodes[0].node_id, host="127.0.0.1", port=1)), "NODE_IN_USE")
is_error(status.sync("none", client=client), "MIGRATION_NOT_FOUND")
print("every route answered as the document says")
