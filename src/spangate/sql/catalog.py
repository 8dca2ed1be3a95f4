"""What statements can name as ZetaSQL takes it, and Spanner's dialect of GoogleSQL.

Rules: a relation's serialization id is its number in `Names.relations`. A feature that Spanner lacks stays off: it
could only make a statement mean something else here than there.
Not here: types (types.py), Spanner's own functions (functions.py), reading the tree (tree.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as enums
from zetasql.wasi._pb2.zetasql.public import simple_model_pb2, type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_node_kind_pb2 as kinds

from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.sql.functions import PREDICT, change_stream_function, functions, predict_function
from spangate.sql.relations import Names, Origin, Relation, function_of_stream, names_of
from spangate.sql.types import UnknownType, type_of_parameter, type_of_text

__all__ = ["UnknownType", "analyzer_options", "catalog_of", "language_options"]

# "The default time zone, America/Los_Angeles, is used" (Spanner's GoogleSQL data types).
_TIME_ZONE = "America/Los_Angeles"

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
    # Table functions and sequences.
    "TABLE_VALUED_FUNCTIONS",
    "SEQUENCE_ARG",
)

_STATEMENTS = (
    kinds.RESOLVED_QUERY_STMT,
    kinds.RESOLVED_INSERT_STMT,
    kinds.RESOLVED_UPDATE_STMT,
    kinds.RESOLVED_DELETE_STMT,
)


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


def catalog_of(names: Names | Schema) -> simple_catalog_pb2.SimpleCatalogProto:
    """The catalog to register: everything that has a name, in a sub-catalog for each named schema, and the functions.

    Of a schema alone: its tables and what every database has.
    """
    if isinstance(names, Schema):
        names = names_of(names)
    catalog = simple_catalog_pb2.SimpleCatalogProto(
        name="spanner",
        builtin_function_options=options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=language_options()),
        custom_function=functions(),
    )
    places = _Places(catalog)
    for number, relation in enumerate(names.relations):
        _add_relation(places, number, relation)
    for name in names.sequences:
        place, short_name = places.of(name)
        # Both names are the short one: ZetaSQL looks sequences up by what it calls the full name.
        place.sequence.add(name=short_name, full_name=short_name)
    for stream in names.streams.values():
        function = function_of_stream(stream)
        places.of(function)[0].custom_tvf.append(change_stream_function(function))
    if names.models:
        _add_models(places, names)
    return catalog


class _Places:
    """The sub-catalogs by lower-case name, made when they are asked for."""

    def __init__(self, catalog: simple_catalog_pb2.SimpleCatalogProto) -> None:
        self._catalog = catalog
        self._named: dict[str, simple_catalog_pb2.SimpleCatalogProto] = {}

    def of(self, name: str) -> tuple[simple_catalog_pb2.SimpleCatalogProto, str]:
        """Where something of that name belongs, and what it is called there."""
        schema_name, _, short_name = name.rpartition(".")
        if not schema_name:
            return self._catalog, short_name
        place = self._named.get(schema_name.lower())
        if place is None:
            place = self._named[schema_name.lower()] = self._catalog.catalog.add(name=schema_name)
        return place, short_name


def _add_relation(places: _Places, number: int, relation: Relation) -> None:
    table = relation.table
    place, short_name = places.of(table.name)
    key = {name.lower() for name in table.primary_key}
    proto = place.table.add(
        name=short_name,
        full_name=table.name,
        serialization_id=number,
        primary_key_column_index=[index for index, column in enumerate(table.columns) if column.name.lower() in key],
    )
    for index, column in enumerate(table.columns):
        proto.column.add(
            name=column.name,
            type=type_pb2.TypeProto.FromString(relation.types[index]) if relation.types else type_of_text(column.type),
            is_pseudo_column=column.hidden,
            is_writable_column=relation.origin is Origin.TABLE and not column.generated,
        )


def _add_models(places: _Places, names: Names) -> None:
    """The models by name, and ML.PREDICT, whose result can have any column of a table or of a model's output."""
    columns: dict[str, str] = {}
    unclear: set[str] = set()
    for relation in names.relations:
        for column in relation.table.columns if relation.origin is Origin.TABLE else ():
            if columns.setdefault(column.name.lower(), column.type) != column.type:
                unclear.add(column.name.lower())
    for name in unclear:
        del columns[name]
    for number, model in enumerate(names.models):
        place, short_name = places.of(model.name)
        place.model.append(simple_model_pb2.SimpleModelProto(id=number, name=short_name))
        columns |= {name.lower(): type_ for name, type_ in model.outputs}
    place, _ = places.of(PREDICT)
    place.custom_tvf.append(predict_function(columns))
