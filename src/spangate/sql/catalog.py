"""A schema as ZetaSQL takes it: tables, Spanner's dialect of GoogleSQL, Spanner's own functions.

Rules: a table's serialization id is its place in `Schema.tables`, so that the tree names tables without ambiguity. A
feature that Spanner lacks stays off: it could only make a statement mean something else here than there. A function
that Spanner has and that is missing here makes a statement unreadable, never readable wrongly.
Not here: reading the tree (tree.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from zetasql.wasi._pb2.zetasql.proto import function_pb2, options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2 as function_enums
from zetasql.wasi._pb2.zetasql.public import options_pb2 as enums
from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_node_kind_pb2 as kinds

from spangate.model.schema import Column, Schema, Table
from spangate.model.sqltype import SqlType

# Groups are how the tree tells whose a function is (`ZetaSQL:abs`, `Spanner:bit_reverse`).
FUNCTION_GROUP = "Spanner"
BUILTIN_GROUP = "ZetaSQL"

# "The default time zone, America/Los_Angeles, is used" (Spanner's GoogleSQL data types).
_TIME_ZONE = "America/Los_Angeles"

# Nobody nests types this deep, and recursion has to end somewhere.
_TYPE_DEPTH_MAX = 32

_SCALARS: Mapping[str, int] = {
    "BOOL": type_pb2.TYPE_BOOL,
    "BYTES": type_pb2.TYPE_BYTES,
    "DATE": type_pb2.TYPE_DATE,
    "FLOAT32": type_pb2.TYPE_FLOAT,
    "FLOAT64": type_pb2.TYPE_DOUBLE,
    "INT64": type_pb2.TYPE_INT64,
    "INTERVAL": type_pb2.TYPE_INTERVAL,
    "JSON": type_pb2.TYPE_JSON,
    "NUMERIC": type_pb2.TYPE_NUMERIC,
    "STRING": type_pb2.TYPE_STRING,
    "TIMESTAMP": type_pb2.TYPE_TIMESTAMP,
    "TOKENLIST": type_pb2.TYPE_TOKENLIST,
    "UUID": type_pb2.TYPE_UUID,
}

# Named after the pages of Spanner's GoogleSQL reference that they belong to.
_FEATURES: tuple[str, ...] = (
    # Data types.
    "TIMESTAMP_NANOS",
    "NUMERIC_TYPE",
    "JSON_TYPE",
    "INTERVAL_TYPE",
    "UUID_TYPE",
    "TOKENIZED_SEARCH",
    # Query syntax.
    "TABLESAMPLE",
    "ANALYTIC_FUNCTIONS",
    "SELECT_STAR_EXCEPT_REPLACE",
    "WITH_ON_SUBQUERY",
    "ORDER_BY_COLLATE",
    "NULLS_FIRST_LAST_IN_ORDER_BY",
    "ALLOW_CONSECUTIVE_ON",
    "GROUP_BY_ALL",
    "PIPES",
    "FOR_UPDATE",
    # Data manipulation.
    "DML_RETURNING",
    "INSERT_ON_CONFLICT_CLAUSE",
    "COLUMN_DEFAULT_VALUE",
    # Functions and operators.
    "NAMED_ARGUMENTS",
    "SAFE_FUNCTION_CALL",
    "HAVING_IN_AGGREGATE",
    "NULL_HANDLING_MODIFIER_IN_AGGREGATE",
    "NULL_HANDLING_MODIFIER_IN_ANALYTIC",
    "ORDER_BY_IN_AGGREGATE",
    "LIMIT_IN_AGGREGATE",
    "BARE_ARRAY_ACCESS",
    "IS_DISTINCT",
    "LIKE_ANY_SOME_ALL",
    "CONCAT_MIXED_TYPES",
    "WEEK_WITH_WEEKDAY",
    "DATE_TIME_CONSTRUCTORS",
    "EXTENDED_DATE_TIME_SIGNATURES",
    "DATE_ARITHMETICS",
    "ADDITIONAL_STRING_FUNCTIONS",
    "ALLOW_REGEXP_EXTRACT_OPTIONALS",
    "REPEAT",
    "INVERSE_TRIG_FUNCTIONS",
    "FORMAT_IN_CAST",
    "ARRAY_AGGREGATION_FUNCTIONS",
    "ARRAY_FIND_FUNCTIONS",
    "INLINE_LAMBDA_ARGUMENT",
    "JSON_ARRAY_FUNCTIONS",
    "JSON_VALUE_EXTRACTION_FUNCTIONS",
    "JSON_LAX_VALUE_EXTRACTION_FUNCTIONS",
    "JSON_MORE_VALUE_EXTRACTION_FUNCTIONS",
    "JSON_ARRAY_VALUE_EXTRACTION_FUNCTIONS",
    "JSON_CONSTRUCTOR_FUNCTIONS",
    "JSON_MUTATOR_FUNCTIONS",
    "JSON_QUERY_LAX",
    "JSON_CONTAINS_FUNCTION",
    "JSON_KEYS_FUNCTION",
    "JSON_STRICT_NUMBER_PARSING",
    "ENABLE_CONSTANT_EXPRESSION_IN_JSON_PATH",
    "ENABLE_FLOAT_DISTANCE_FUNCTIONS",
    "DOT_PRODUCT",
    "NULLIFZERO_ZEROIFNULL",
)

_STATEMENTS = (
    kinds.RESOLVED_QUERY_STMT,
    kinds.RESOLVED_INSERT_STMT,
    kinds.RESOLVED_UPDATE_STMT,
    kinds.RESOLVED_DELETE_STMT,
)


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of Spanner's own; `named` are the optional arguments that are given by name."""

    name: str
    arguments: tuple[str, ...]
    result: str
    named: tuple[tuple[str, str], ...] = ()


_LANGUAGE = ("language_tag", "STRING")
_QUERY = (("dialect", "STRING"), _LANGUAGE, ("enhance_query", "BOOL"))

# Spanner documents them and ZetaSQL does not know them. All of them are functions of their arguments and nothing else;
# those that do or show more (sequences, SECURE_CONTEXT, ML, change streams) are left out on purpose.
_FUNCTIONS = (
    _Function("PENDING_COMMIT_TIMESTAMP", (), "TIMESTAMP"),
    _Function("BIT_REVERSE", ("INT64", "BOOL"), "INT64"),
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
)


class UnknownType(ValueError):
    """A type that cannot be carried over; the message names it."""


def language_options() -> options_pb2.LanguageOptionsProto:
    """Spanner's dialect: the external product, named parameters, queries and DML only."""
    return options_pb2.LanguageOptionsProto(
        name_resolution_mode=enums.NAME_RESOLUTION_DEFAULT,
        product_mode=enums.PRODUCT_EXTERNAL,
        enabled_language_features=[enums.LanguageFeature.Value(f"FEATURE_{name}") for name in _FEATURES],
        supported_statement_kinds=_STATEMENTS,
        # Reserved in Spanner since Spanner Graph; unreserved, it could be an alias here and a keyword there.
        reserved_keywords=["GRAPH_TABLE"],
    )


def analyzer_options(param_types: Mapping[str, SqlType]) -> options_pb2.AnalyzerOptionsProto:
    """Options for one statement. Raises UnknownType for a parameter of a type that is not known."""
    return options_pb2.AnalyzerOptionsProto(
        language_options=language_options(),
        query_parameters=[
            options_pb2.AnalyzerOptionsProto.QueryParameterProto(name=name, type=type_of_parameter(type_))
            for name, type_ in param_types.items()
        ],
        # Spanner infers the type of a parameter that comes without one.
        allow_undeclared_parameters=True,
        parameter_mode=enums.PARAMETER_NAMED,
        # "This allows using the resolved AST for column-level ACL checking" (zetasql/public/analyzer_options.h).
        prune_unused_columns=True,
        error_message_mode=enums.ERROR_MESSAGE_ONE_LINE,
        default_timezone=_TIME_ZONE,
    )


def catalog_of(schema: Schema) -> simple_catalog_pb2.SimpleCatalogProto:
    """The catalog to register: every table, in a sub-catalog for each named schema, and the functions."""
    catalog = simple_catalog_pb2.SimpleCatalogProto(
        name="spanner",
        builtin_function_options=options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=language_options()),
        custom_function=_functions(),
    )
    named_schemas: dict[str, simple_catalog_pb2.SimpleCatalogProto] = {}
    for number, table in enumerate(schema.tables):
        schema_name, _, short_name = table.name.rpartition(".")
        place = catalog
        if schema_name:
            place = named_schemas.get(schema_name.lower())
            if place is None:
                place = named_schemas[schema_name.lower()] = catalog.catalog.add(name=schema_name)
        _add_table(place, number, short_name, table)
    return catalog


def type_of_parameter(type_: SqlType, depth: int = 0) -> type_pb2.TypeProto:
    """ZetaSQL's form of a parameter's type. Raises UnknownType."""
    if depth > _TYPE_DEPTH_MAX:
        raise UnknownType(f"the type of a parameter is nested more than {_TYPE_DEPTH_MAX} deep")
    if type_.code == "ARRAY" and type_.element is not None and type_.element.code != "ARRAY":
        return _array(type_of_parameter(type_.element, depth + 1))
    if type_.code == "STRUCT":
        return _struct((name, type_of_parameter(field, depth + 1)) for name, field in type_.fields)
    kind = _SCALARS.get(type_.code)
    if kind is None:
        raise UnknownType(f"the type `{type_.code}` is not supported for parameters")
    return type_pb2.TypeProto(type_kind=kind)


def type_of_column(column: Column) -> type_pb2.TypeProto:
    """ZetaSQL's form of a column's type.

    Protocol buffer messages and enumerations become BYTES: the column can be read and written as a whole, while a
    statement that looks inside cannot be read and is refused.
    """
    return _type_of_text(column.type)


def _type_of_text(text: str) -> type_pb2.TypeProto:
    if text.startswith("ARRAY<"):
        return _array(_type_of_text(text[len("ARRAY<") : text.index(">")]))
    kind = _SCALARS.get(text.partition("(")[0].strip().upper())
    return type_pb2.TypeProto(type_kind=type_pb2.TYPE_BYTES if kind is None else kind)


def _array(element: type_pb2.TypeProto) -> type_pb2.TypeProto:
    return type_pb2.TypeProto(type_kind=type_pb2.TYPE_ARRAY, array_type=type_pb2.ArrayTypeProto(element_type=element))


def _struct(fields: Iterable[tuple[str, type_pb2.TypeProto]]) -> type_pb2.TypeProto:
    return type_pb2.TypeProto(
        type_kind=type_pb2.TYPE_STRUCT,
        struct_type=type_pb2.StructTypeProto(
            field=[type_pb2.StructFieldProto(field_name=name, field_type=type_) for name, type_ in fields]
        ),
    )


def _add_table(catalog: simple_catalog_pb2.SimpleCatalogProto, number: int, short_name: str, table: Table) -> None:
    key = {name.lower() for name in table.primary_key}
    proto = catalog.table.add(
        name=short_name,
        full_name=table.name,
        serialization_id=number,
        primary_key_column_index=[index for index, column in enumerate(table.columns) if column.name.lower() in key],
    )
    for column in table.columns:
        proto.column.add(
            name=column.name,
            type=type_of_column(column),
            is_pseudo_column=column.hidden,
            is_writable_column=not column.generated,
        )


def _functions() -> Iterator[function_pb2.FunctionProto]:
    """Every function once, with all its signatures."""
    signatures: dict[str, list[function_pb2.FunctionSignatureProto]] = {}
    for function in _FUNCTIONS:
        signatures.setdefault(function.name, []).append(_signature(function))
    for name, found in signatures.items():
        yield function_pb2.FunctionProto(
            name_path=[name], group=FUNCTION_GROUP, mode=function_enums.FunctionEnums.SCALAR, signature=found
        )


def _signature(function: _Function) -> function_pb2.FunctionSignatureProto:
    named = [
        _argument(
            code,
            function_pb2.FunctionArgumentTypeOptionsProto(
                cardinality=function_enums.FunctionEnums.OPTIONAL,
                argument_name=name,
                named_argument_kind=function_enums.FunctionEnums.NAMED_ONLY,
            ),
            occurrences=0,
        )
        for name, code in function.named
    ]
    return function_pb2.FunctionSignatureProto(
        argument=[*(_argument(code) for code in function.arguments), *named],
        return_type=_argument(function.result),
        context_id=0,
    )


def _argument(
    code: str, options: function_pb2.FunctionArgumentTypeOptionsProto | None = None, occurrences: int = 1
) -> function_pb2.FunctionArgumentTypeProto:
    return function_pb2.FunctionArgumentTypeProto(
        kind=function_enums.ARG_TYPE_FIXED, type=_type_of_text(code), num_occurrences=occurrences, options=options
    )
