"""The vocabulary of the intent file: its keys, its patterns, its limits.

Rules: every key the parser knows stands here with the sentence that explains it; spec/intent.schema.json is held to
these constants by tests/unit/test_intent_schema.py.
Not here: what a word means for a decision (model/, check.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from spangate.model.access import Operation
from spangate.settings import MIB

FORMAT_VERSION = "v1"
DEFAULT_PROJECT = "spangate-local"
DIALECT = "googlesql"

# Ten thousand identities with one grant each need about 1 MiB; reading YAML takes seconds per MiB.
FILE_BYTES_MAX = MIB
# The format itself is five levels deep.
DEPTH_MAX = 16
# Names of identities become database roles (`sg_` + name, at most 63 characters).
IDENTITY_NAME_CHARACTERS_MAX = 60
# Spanner: "Table name length: 1 to 128 characters", and the same for columns
# (https://cloud.google.com/spanner/quotas#tables). An alias keeps to it as well.
NAME_CHARACTERS_MAX = 128
SCHEMA_FILE_CHARACTERS_MAX = 1024

# Without `_`, so that `role_of` cannot map two names to one role.
IDENTITY_NAME = rf"[a-z][a-z0-9-]{{0,{IDENTITY_NAME_CHARACTERS_MAX - 1}}}"
ALIAS = rf"[a-z][a-z0-9_-]{{0,{NAME_CHARACTERS_MAX - 1}}}"
# https://cloud.google.com/spanner/docs/reference/standard-sql/data-definition-language#naming_conventions; a table may
# stand in a named schema: `sales.Orders`.
COLUMN = rf"[A-Za-z_][A-Za-z0-9_]{{0,{NAME_CHARACTERS_MAX - 1}}}"
TABLE = rf"{COLUMN}(?:\.{COLUMN})?"

ROOT_KEYS: Mapping[str, str] = {
    "spangate": f"The version of this file's format: always `{FORMAT_VERSION}`.",
    "trust_domain": "The SPIFFE trust domain that all identities of this file belong to, for instance `shop.example`.",
    "databases": "The databases, each under a short name (its alias) by which `access` refers to it.",
    "identities": "The workloads and agents, each under a short name by which `access` refers to it.",
    "access": "Who may do what: identity, database, operation, tables. What is not granted here is denied.",
}
EXAMPLES: Mapping[str, str] = {
    "spangate": f"spangate: {FORMAT_VERSION}",
    "trust_domain": "trust_domain: shop.example",
    "databases": "databases: {shop: {instance: main, database: shop, schema: schema.sql}}",
    "identities": "identities: {checkout: {workload: shop/checkout}}",
    "access": "access: {checkout: {shop: {read: [Orders]}}}",
    "instance": "instance: main",
    "database": "database: shop",
    "schema": "schema: schema.sql",
    "project": "project: my-project",
    "dialect": f"dialect: {DIALECT}",
    "workload": "workload: shop/checkout",
    "agent": "agent: tools/copilot",
}
ROOT_KEYS_REQUIRED = ("spangate", "trust_domain", "databases", "identities")

DATABASE_KEYS: Mapping[str, str] = {
    "instance": "The Spanner instance.",
    "database": "The database's name in that instance.",
    "schema": "The file with the DDL, relative to this file: it gives the names under `access` their meaning.",
    "project": f"The Google Cloud project. Left out: `{DEFAULT_PROJECT}`.",
    "dialect": f"The database's SQL dialect. This version reads `{DIALECT}` only, which is also the default.",
}
DATABASE_KEYS_REQUIRED = ("instance", "database", "schema")

IDENTITY_KEYS: Mapping[str, str] = {
    "workload": "A Kubernetes workload, as `namespace/service account`.",
    "agent": "An agent, as `namespace/service account`.",
}

OPERATION_KEYS: Mapping[str, str] = {
    Operation.READ.value: "Tables that may be read, each with the columns that may be read: `Orders(OrderId)`.",
    Operation.INSERT.value: "Tables that rows may be inserted into, each with the columns that may be given a value.",
    Operation.UPDATE.value: "Tables whose rows may be changed, each with the columns that may be changed.",
    Operation.DELETE.value: "Tables that rows may be deleted from. A row is deleted as a whole: no columns here.",
}

# Words with a meaning in a version to come. They are refused, never ignored: whoever writes `deny` relies on it.
LATER_WORDS: Mapping[str, str] = {
    "ddl": "it belongs to a later version; apply schema changes outside of spangate",
    "deny": "what is not granted is denied already; grant only the tables and columns that are meant",
    "partitioned_dml": "it belongs to a later version",
    "roles": "it belongs to a later version; write the grants under each identity",
    "traffic": "it belongs to a later version; use Istio's AuthorizationPolicy for traffic between services",
    "until": "it belongs to a later version; take the grant out of the file when it should end",
    "write": "name what is meant: `insert`, `update`, `delete`",
}
