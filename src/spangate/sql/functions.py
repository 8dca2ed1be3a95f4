"""Spanner's own functions and table functions, which ZetaSQL does not know.

Rules: a function that is listed here is a function of its arguments and nothing else, but for those of sequences,
change streams and models, whose accesses tree.py adds. A function that Spanner has and that is missing here makes a
statement unreadable, never readable wrongly.
Source: https://cloud.google.com/spanner/docs/reference/standard-sql/functions-all
Not here: tables (catalog.py), what calling a function means (tree.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from zetasql.wasi._pb2.zetasql.proto import function_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2 as enums

from spangate.sql.types import type_of_text

# Groups are how the tree tells whose a function is (`ZetaSQL:abs`, `Spanner:bit_reverse`).
FUNCTION_GROUP = "Spanner"
BUILTIN_GROUP = "ZetaSQL"

NEXT_SEQUENCE_VALUE = "get_next_sequence_value"
SEQUENCE_STATE = "get_internal_sequence_state"
PREDICT = "ML.PREDICT"

# A sequence, given by its name: `GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers)`.
_SEQUENCE = "SEQUENCE"

Named = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of Spanner's own; `named` are the optional arguments that are given by name."""

    name: str
    arguments: tuple[str, ...]
    result: str
    named: Named = ()


_LANGUAGE = ("language_tag", "STRING")
_QUERY = (("dialect", "STRING"), _LANGUAGE, ("enhance_query", "BOOL"))
_DIACRITICS = ("remove_diacritics", "BOOL")
_SIZES = (("ngram_size_max", "INT64"), ("ngram_size_min", "INT64"))
_FULLTEXT = (_LANGUAGE, ("content_type", "STRING"), ("token_category", "STRING"), _DIACRITICS)
_SUBSTRING = (
    ("content_type", "STRING"),
    _LANGUAGE,
    *_SIZES,
    ("relative_search_types", "ARRAY<STRING>"),
    ("short_tokens_only_for_anchors", "BOOL"),
    _DIACRITICS,
)


def _of(name: str, types: Iterable[str], result: str, named: Named = ()) -> Iterator[_Function]:
    """The function for one argument of each of these types."""
    for type_ in types:
        yield _Function(name, (type_,), result, named)


def _number(type_: str) -> Named:
    """The options of TOKENIZE_NUMBER for numbers of that type."""
    return (
        ("comparison_type", "STRING"),
        ("algorithm", "STRING"),
        ("min", type_),
        ("max", type_),
        ("granularity", type_),
        ("tree_base", "INT64"),
        ("ieee_precision", "INT64"),
        ("precision", "INT64"),
    )


_NUMBERS = ("INT64", "FLOAT32", "FLOAT64", "NUMERIC")
_FUNCTIONS = (
    _Function("PENDING_COMMIT_TIMESTAMP", (), "TIMESTAMP"),
    _Function("BIT_REVERSE", ("INT64", "BOOL"), "INT64"),
    # The gateway says what the context holds: nothing, or the caller's identity. A client's own is cut out.
    _Function("SECURE_CONTEXT", ("STRING",), "STRING"),
    # Sequences.
    _Function(NEXT_SEQUENCE_VALUE.upper(), (_SEQUENCE,), "INT64"),
    _Function(SEQUENCE_STATE.upper(), (_SEQUENCE,), "INT64"),
    # Full-text search.
    _Function("SEARCH", ("TOKENLIST", "STRING"), "BOOL", _QUERY),
    _Function(
        "SEARCH_NGRAMS",
        ("TOKENLIST", "STRING"),
        "BOOL",
        (_LANGUAGE, ("min_ngrams", "INT64"), ("min_ngrams_percent", "FLOAT64")),
    ),
    _Function("SEARCH_SUBSTRING", ("TOKENLIST", "STRING"), "BOOL", (_LANGUAGE, ("relative_search_type", "STRING"))),
    _Function("SCORE", ("TOKENLIST", "STRING"), "FLOAT64", (*_QUERY, ("options", "JSON"))),
    _Function("SCORE_NGRAMS", ("TOKENLIST", "STRING"), "FLOAT64", (_LANGUAGE, ("algorithm", "STRING"))),
    _Function(
        "SNIPPET",
        ("STRING", "STRING"),
        "JSON",
        (*_QUERY, ("max_snippet_width", "INT64"), ("max_snippets", "INT64"), ("content_type", "STRING")),
    ),
    # Token lists.
    *_of("TOKEN", ("STRING", "BYTES", "ARRAY<STRING>", "ARRAY<BYTES>"), "TOKENLIST"),
    *_of("TOKENIZE_BOOL", ("BOOL", "ARRAY<BOOL>"), "TOKENLIST"),
    *_of("TOKENIZE_FULLTEXT", ("STRING", "ARRAY<STRING>"), "TOKENLIST", _FULLTEXT),
    *_of("TOKENIZE_JSON", ("JSON",), "TOKENLIST"),
    *_of("TOKENIZE_NGRAMS", ("STRING", "ARRAY<STRING>"), "TOKENLIST", (*_SIZES, _DIACRITICS)),
    *_of("TOKENIZE_SUBSTRING", ("STRING", "ARRAY<STRING>"), "TOKENLIST", _SUBSTRING),
    *(
        _Function("TOKENIZE_NUMBER", (form.format(type_),), "TOKENLIST", _number(type_))
        for type_ in _NUMBERS
        for form in ("{}", "ARRAY<{}>")
    ),
    *_of("TOKENLIST_CONCAT", ("ARRAY<TOKENLIST>",), "TOKENLIST"),
    *_of("DEBUG_TOKENLIST", ("TOKENLIST",), "STRING"),
)

# https://cloud.google.com/spanner/docs/change-streams/details#query
_CHANGE_STREAM_ARGUMENTS = (
    ("start_timestamp", "TIMESTAMP"),
    ("end_timestamp", "TIMESTAMP"),
    ("partition_token", "STRING"),
    ("heartbeat_milliseconds", "INT64"),
    ("read_options", "ARRAY<STRING>"),
)
_COLUMN_TYPES = "ARRAY<STRUCT<name STRING, type JSON, is_primary_key BOOL, ordinal_position INT64>>"
_DATA_CHANGE = (
    "STRUCT<commit_timestamp TIMESTAMP, record_sequence STRING, server_transaction_id STRING, "
    "is_last_record_in_transaction_in_partition BOOL, table_name STRING, "
    f"column_types {_COLUMN_TYPES}, mods ARRAY<STRUCT<keys JSON, new_values JSON, old_values JSON>>, mod_type STRING, "
    "value_capture_type STRING, number_of_records_in_transaction INT64, number_of_partitions_in_transaction INT64, "
    "transaction_tag STRING, is_system_transaction BOOL>"
)
_CHILDREN = (
    "STRUCT<start_timestamp TIMESTAMP, record_sequence STRING, "
    "child_partitions ARRAY<STRUCT<token STRING, parent_partition_tokens ARRAY<STRING>>>>"
)
_CHANGE_RECORD = (
    f"ARRAY<STRUCT<data_change_record ARRAY<{_DATA_CHANGE}>, "
    f"heartbeat_record ARRAY<STRUCT<timestamp TIMESTAMP>>, child_partitions_record ARRAY<{_CHILDREN}>>>"
)


def functions() -> Iterator[function_pb2.FunctionProto]:
    """Every function once, with all its signatures."""
    signatures: dict[str, list[function_pb2.FunctionSignatureProto]] = {}
    for function in _FUNCTIONS:
        signatures.setdefault(function.name, []).append(_signature(function))
    for name, found in signatures.items():
        yield function_pb2.FunctionProto(
            name_path=[name], group=FUNCTION_GROUP, mode=enums.FunctionEnums.SCALAR, signature=found
        )


def change_stream_function(name: str) -> function_pb2.TableValuedFunctionProto:
    """`READ_<stream>`, with its schema in front if it has one: the records of a change stream."""
    relation = function_pb2.TVFRelationProto(
        column=[function_pb2.TVFRelationColumnProto(name="ChangeRecord", type=type_of_text(_CHANGE_RECORD))]
    )
    arguments = [_optional(argument, type_) for argument, type_ in _CHANGE_STREAM_ARGUMENTS]
    return function_pb2.TableValuedFunctionProto(
        name_path=name.split("."),
        type=enums.FunctionEnums.FIXED_OUTPUT_SCHEMA_TVF,
        signature=function_pb2.FunctionSignatureProto(
            argument=arguments,
            return_type=_relation(relation),
        ),
    )


def predict_function(columns: Mapping[str, str]) -> function_pb2.TableValuedFunctionProto:
    """`ML.PREDICT(MODEL m, rows [, parameters])`, for the sub-catalog ML; `columns` are names and types of its result.

    What it gives are the rows with the model's outputs, which no kind of ZetaSQL's table functions can say when the
    model comes first. So its result has every name that one of them could have: reading one that is not there is
    Spanner's error to make, and reading one that is there reads nothing that the argument does not read already.
    """
    return function_pb2.TableValuedFunctionProto(
        name_path=PREDICT.split("."),
        type=enums.FunctionEnums.FIXED_OUTPUT_SCHEMA_TVF,
        signature=function_pb2.FunctionSignatureProto(
            argument=[
                function_pb2.FunctionArgumentTypeProto(kind=enums.ARG_TYPE_MODEL, num_occurrences=1),
                function_pb2.FunctionArgumentTypeProto(kind=enums.ARG_TYPE_RELATION, num_occurrences=1),
                function_pb2.FunctionArgumentTypeProto(
                    kind=enums.ARG_TYPE_ARBITRARY,
                    num_occurrences=0,
                    options=function_pb2.FunctionArgumentTypeOptionsProto(cardinality=enums.FunctionEnums.OPTIONAL),
                ),
            ],
            return_type=_relation(
                function_pb2.TVFRelationProto(
                    column=[
                        function_pb2.TVFRelationColumnProto(name=name, type=type_of_text(type_))
                        for name, type_ in columns.items()
                    ]
                )
            ),
        ),
    )


def _relation(columns: function_pb2.TVFRelationProto) -> function_pb2.FunctionArgumentTypeProto:
    """What a table function gives; a return type without an occurrence makes ZetaSQL abort."""
    return function_pb2.FunctionArgumentTypeProto(
        kind=enums.ARG_TYPE_RELATION,
        num_occurrences=1,
        options=function_pb2.FunctionArgumentTypeOptionsProto(relation_input_schema=columns),
    )


def _signature(function: _Function) -> function_pb2.FunctionSignatureProto:
    return function_pb2.FunctionSignatureProto(
        argument=[
            *(_argument(type_) for type_ in function.arguments),
            *(_optional(name, type_, named_kind=enums.FunctionEnums.NAMED_ONLY) for name, type_ in function.named),
        ],
        return_type=_argument(function.result),
        context_id=0,
    )


def _argument(type_: str) -> function_pb2.FunctionArgumentTypeProto:
    if type_ == _SEQUENCE:
        return function_pb2.FunctionArgumentTypeProto(kind=enums.ARG_TYPE_SEQUENCE, num_occurrences=1)
    return function_pb2.FunctionArgumentTypeProto(
        kind=enums.ARG_TYPE_FIXED, type=type_of_text(type_), num_occurrences=1
    )


def _optional(name: str, type_: str, named_kind: int | None = None) -> function_pb2.FunctionArgumentTypeProto:
    return function_pb2.FunctionArgumentTypeProto(
        kind=enums.ARG_TYPE_FIXED,
        type=type_of_text(type_),
        num_occurrences=0,
        options=function_pb2.FunctionArgumentTypeOptionsProto(
            cardinality=enums.FunctionEnums.OPTIONAL,
            argument_name=name,
            named_argument_kind=enums.FunctionEnums.POSITIONAL_OR_NAMED if named_kind is None else named_kind,
        ),
    )
