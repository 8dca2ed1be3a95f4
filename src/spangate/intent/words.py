"""The vocabulary of the intent file: its keys, its patterns, its limits.

Rules: every key the parser knows stands here with the sentence that explains it; spec/intent.schema.json is held to
these constants by tests/unit/test_intent_schema.py.
Not here: what a word means for a decision (model/, check.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from spangate.model.access import Operation
from spangate.model.google import (
    CLOUD_SCOPE,
    IMPERSONATION_SECONDS_MAX,
    IMPERSONATION_SECONDS_MIN,
    SubjectTokenType,
)
from spangate.model.policy import LIVE
from spangate.model.schema import Dialect
from spangate.settings import MIB

FORMAT_VERSION = "v1"
DEFAULT_PROJECT = "spangate-local"
DIALECT = Dialect.GOOGLESQL.value
DIALECTS = tuple(dialect.value for dialect in Dialect)
TAGS_KEEP = "keep"

# Ten thousand identities with one grant each need about 1 MiB; reading YAML takes seconds per MiB.
FILE_BYTES_MAX = MIB
# The format itself is five levels deep.
DEPTH_MAX = 16
# Keys, texts, lists and mappings. YAML is read at some 20,000 of them a second; a file of FILE_BYTES_MAX with a table
# on each line has fewer.
NODES_MAX = 70_000
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
# `*` stands for any run of characters, dots too.
_PATTERN_PART = rf"[A-Za-z_*][A-Za-z0-9_*]{{0,{NAME_CHARACTERS_MAX - 1}}}"
PATTERN = rf"{_PATTERN_PART}(?:\.{_PATTERN_PART})?"
# RFC 3339, section 5.6, with the seconds left to the writer: `2026-12-31T18:00Z`, `2026-12-31T18:00:00+01:00`.
MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})"

# https://developers.google.com/identity/protocols/oauth2/scopes: all of Google's are of this form.
SCOPE = r"https://www\.googleapis\.com/auth/[a-z0-9._/-]{1,100}"
# Whole seconds, minutes or hours: `600s`, `10m`, `1h`.
LIFETIME = r"[1-9][0-9]{0,4}[smh]"
SUBJECT_TOKENS = tuple(kind.value for kind in SubjectTokenType)
# A token for more is none that anybody can reason about; Spanner needs one or two.
SCOPES_MAX = 16
# Each is another call to explain and another role binding to keep.
DELEGATES_MAX = 8

# Patterns and roles multiply: beyond this many grants, a policy takes longer to check than anybody waits at a save.
GRANTS_MAX = 500_000
# Names that all patterns together are compared with; ten million take about three seconds.
PATTERN_COMPARISONS_MAX = 10_000_000

ROOT_KEYS: Mapping[str, str] = {
    "spangate": f"The version of this file's format: always `{FORMAT_VERSION}`.",
    "trust_domain": "The SPIFFE trust domain that all identities of this file belong to, for instance `shop.example`.",
    "trust_domains": "Trust domains whose workloads have certificates of a mesh's authority, each under its name. The "
    "trust domain of this file may stand here too.",
    "databases": "The databases, each under a short name (its alias) by which `access` refers to it.",
    "identities": "The workloads and agents, each under a short name by which `access` refers to it.",
    "roles": "Bundles of grants, each under a name by which `access` gives it to identities.",
    "access": "Who may do what: identity, database, operation, tables. What is not granted here is denied.",
    "google": "The provider of a workload identity pool at which identities get their access tokens.",
}
EXAMPLES: Mapping[str, str] = {
    "spangate": f"spangate: {FORMAT_VERSION}",
    "trust_domain": "trust_domain: shop.example",
    "trust_domains": "trust_domains: {cluster.local: {bundle: istio/root-cert.pem}}",
    "databases": "databases: {shop: {instance: main, database: shop, schema: schema.sql}}",
    "identities": "identities: {checkout: {workload: shop/checkout}}",
    "roles": "roles: {clerk: {shop: {read: [Orders]}}}",
    "access": "access: {checkout: {shop: {read: [Orders]}}}",
    "google": 'google: {project_number: "123456789012", pool: mesh, provider: spangate}',
    "project_number": 'project_number: "123456789012"',
    "pool": "pool: mesh",
    "provider": "provider: spangate",
    "subject_token": f"subject_token: {SUBJECT_TOKENS[0]}",
    "scopes": f"scopes: [{CLOUD_SCOPE}]",
    "impersonate": "impersonate: {service_account: shop-db@my-project.iam.gserviceaccount.com}",
    "service_account": "service_account: shop-db@my-project.iam.gserviceaccount.com",
    "delegates": "delegates: [hop@my-project.iam.gserviceaccount.com]",
    "lifetime": "lifetime: 10m",
    "instance": "instance: main",
    "database": "database: shop",
    "schema": "schema: schema.sql",
    "project": "project: my-project",
    "dialect": f"dialect: {DIALECT}",
    "tags": f"tags: {TAGS_KEEP}",
    "secure_context": "secure_context: true",
    "workload": "workload: shop/checkout",
    "agent": "agent: tools/copilot",
    "unix": "unix: {user: shop}",
    "user": "user: shop",
    "group": "group: shop",
    "executable": "executable: /usr/bin/checkout",
    "bundle": "bundle: istio/root-cert.pem",
    "aliases": "aliases: [old.example]",
}
ROOT_KEYS_REQUIRED = ("spangate", "trust_domain", "databases", "identities")

DATABASE_KEYS: Mapping[str, str] = {
    "instance": "The Spanner instance.",
    "database": "The database's name in that instance.",
    "schema": "The file with the DDL, relative to this file: it gives the names under `access` their meaning. "
    f"`{LIVE}` asks the database itself.",
    "project": f"The Google Cloud project. Left out: `{DEFAULT_PROJECT}`.",
    "dialect": f"The database's SQL dialect, `{DIALECTS[0]}` or `{DIALECTS[1]}`. Left out: `{DIALECT}`.",
    "tags": f"`{TAGS_KEEP}` keeps the application's own transaction tag behind Spangate's, where 50 characters allow.",
    "secure_context": "With `true`, Spanner's secure context says of every request which identity it is from.",
}
DATABASE_KEYS_REQUIRED = ("instance", "database", "schema")

# A mesh has a handful of aliases, and they all go into one header of the checkpoint's answers. A root's rotation needs
# two files.
ALIASES_MAX = 32
BUNDLE_FILES_MAX = 8
TRUST_DOMAINS_MAX = 32
TRUST_DOMAIN_KEYS: Mapping[str, str] = {
    "bundle": "The file with the roots of this trust domain, or a list of such files: certificates in PEM, or a SPIFFE "
    "trust bundle in JSON. Relative to this file.",
    "aliases": "Trust domains under whose names the same workloads are known, as Istio's `trustDomainAliases`.",
}

# Exactly one of these says who an identity is.
IDENTITY_KINDS: Mapping[str, str] = {
    "workload": "A Kubernetes workload, as `namespace/service account`.",
    "agent": "An agent, as `namespace/service account`.",
}
UNIX_KEY, USER_KEY, GROUP_KEY, EXECUTABLE_KEY = "unix", "user", "group", "executable"
IDENTITY_KEYS: Mapping[str, str] = {
    **IDENTITY_KINDS,
    UNIX_KEY: "Which processes of this machine it is: they get it from the Workload API's socket.",
    "trust_domain": "The trust domain of this identity: one under `trust_domains`. Left out: the one of this file.",
    "impersonate": "The service account that Google gives this identity a token of; else that of `google`, if any.",
}
UNIX_KEYS: Mapping[str, str] = {
    USER_KEY: "The user that the process runs as, by name or number.",
    GROUP_KEY: "The group that the process runs as, by name or number: its own, not one of those it is in besides.",
    EXECUTABLE_KEY: "The file that the process runs, as an absolute path; besides a user or a group.",
}

GOOGLE_KEYS: Mapping[str, str] = {
    "project_number": "The number, not the id, of the project that the pool is in; in quotes.",
    "pool": "The workload identity pool.",
    "provider": "The provider of that pool which trusts this installation's authority.",
    "subject_token": "What an identity is known to Google by: "
    f"`{SUBJECT_TOKENS[0]}` or `{SUBJECT_TOKENS[1]}`, a token that the authority signs, or `{SUBJECT_TOKENS[2]}`, its "
    f"certificate. Left out: `{SUBJECT_TOKENS[0]}`.",
    "scopes": f"What the access tokens are for. Left out: `{CLOUD_SCOPE}`.",
    "impersonate": "The service account that Google gives tokens of, to all identities that name no other.",
}
GOOGLE_KEYS_REQUIRED = ("project_number", "pool", "provider")
IMPERSONATE_KEYS: Mapping[str, str] = {
    "service_account": "The service account's e-mail address.",
    "delegates": "Service accounts on the way to it, in their order.",
    "lifetime": f"How long a token lives: `10m`, from {IMPERSONATION_SECONDS_MIN} s to {IMPERSONATION_SECONDS_MAX} s. "
    "Left out: `1h`.",
}
IMPERSONATE_KEYS_REQUIRED = ("service_account",)

# Each with a list of tables (models, queues).
VERB_KEYS: Mapping[str, str] = {
    Operation.READ.value: "Tables that may be read, each with the columns that may be read: `Orders(OrderId)`; also "
    "views, change streams and sequences.",
    Operation.INSERT.value: "Tables that rows may be inserted into, each with the columns that may be given a value.",
    Operation.UPDATE.value: "Tables whose rows may be changed, each with the columns that may be changed; also "
    "sequences that may be advanced.",
    Operation.DELETE.value: "Tables that rows may be deleted from. A row is deleted as a whole: no columns here.",
    "write": "Tables that rows may be inserted into, changed in and deleted from: no columns here.",
    Operation.PARTITIONED_DML.value: "Tables that partitioned DML may change, besides `update` or `delete` on them.",
    Operation.EXECUTE.value: "Models that may be used.",
    Operation.SEND.value: "Queues that messages may be sent to.",
    Operation.ACK.value: "Queues whose messages may be acknowledged.",
}
# Each with `true`, or `{until: ...}`: about the database as a whole.
SWITCH_KEYS: Mapping[str, str] = {
    Operation.SCHEMA.value: "With `true`, the schema may be read by the admin API (GetDatabaseDdl).",
    Operation.DDL.value: "With `true`, the schema may be changed (UpdateDatabaseDdl).",
    Operation.INFORMATION_SCHEMA.value: "With `true`, INFORMATION_SCHEMA may be read.",
    Operation.SPANNER_SYS.value: "With `true`, SPANNER_SYS may be read.",
    Operation.EXCLUDE_FROM_CHANGE_STREAMS.value: "With `true`, transactions may leave their writes out of change "
    "streams.",
}
DENY_KEY = "deny"
OPERATION_KEYS: Mapping[str, str] = {
    **VERB_KEYS,
    **SWITCH_KEYS,
    DENY_KEY: "Exceptions, in the same words: what stands here is denied, whatever is granted elsewhere.",
}
OPERATIONS_OF: Mapping[str, tuple[Operation, ...]] = {
    **{key: (Operation(key),) for key in (*VERB_KEYS, *SWITCH_KEYS) if key != "write"},
    "write": (Operation.INSERT, Operation.UPDATE, Operation.DELETE),
}

ON_KEY, UNTIL_KEY, ROLE_KEY, ROLES_KEY = "on", "until", "role", "roles"
# An entry of a list that ends.
ITEM_KEYS: Mapping[str, str] = {
    ON_KEY: "What is granted, written as an entry of the list would be: `Orders(Status)`.",
    UNTIL_KEY: "When it ends, as RFC 3339 with its zone: `2026-12-31T18:00Z`. It no longer holds at that moment.",
}
ROLE_USE_KEYS: Mapping[str, str] = {
    ROLE_KEY: "The role's name.",
    UNTIL_KEY: ITEM_KEYS[UNTIL_KEY],
}
ROLES_OF_IDENTITY = "The roles that this identity holds."
EXAMPLES_OF_PARTS: Mapping[str, str] = {
    ON_KEY: '{on: "Orders(Status)", until: 2026-12-31T18:00Z}',
    ROLE_KEY: "{role: auditor, until: 2026-12-31T18:00Z}",
    UNTIL_KEY: "until: 2026-12-31T18:00Z",
    ROLES_KEY: "roles: [clerk]",
}

# Words with a meaning in a version to come. They are refused, never ignored: whoever writes one relies on it.
LATER_WORDS: Mapping[str, str] = {
    "traffic": "it belongs to a later version; use Istio's AuthorizationPolicy for traffic between services",
}
