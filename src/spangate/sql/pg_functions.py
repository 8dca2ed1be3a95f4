"""The functions and types of Spanner's PostgreSQL dialect that a statement may use.

Rules: everything in FUNCTIONS depends on its arguments and on nothing else, but for the clock and the dice. What reads
or changes something by itself is named apart (catalog functions, sequences, change streams) or left out and so refused:
models, `query_to_xml`, large objects, settings, locks. A function that Spanner has and that is missing here makes a
statement unreadable, never readable wrongly.
Source: https://cloud.google.com/spanner/docs/reference/postgresql/functions-and-operators and .../data-types
Not here: calls (pg_expression.py).
"""

from __future__ import annotations

# Without a schema or with `pg_catalog`.
FUNCTIONS = frozenset(
    """
    abs acos acosh asin asinh atan atan2 atanh cbrt ceil ceiling cos cosh cot degrees div exp factorial floor gcd lcm
    ln log log10 mod pi pow power radians random round sign sin sinh sqrt tan tanh trunc width_bucket
    ascii bit_count bit_length btrim char_length character_length chr concat concat_ws convert_from convert_to decode
    encode format get_bit get_byte initcap left length like_escape lower lpad ltrim md5 normalize is_normalized
    octet_length overlay position quote_ident quote_literal quote_nullable regexp_count regexp_instr regexp_like
    regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_substr repeat replace reverse right rpad
    rtrim set_bit set_byte sha224 sha256 sha384 sha512 similar_to_escape split_part starts_with string_to_array strpos
    substr substring textcat textlen to_ascii to_hex translate trim upper
    age clock_timestamp date date_bin date_part date_trunc extract isfinite justify_days justify_hours justify_interval
    make_date make_interval make_timestamptz now statement_timestamp timezone to_char to_date to_number to_timestamp
    transaction_timestamp
    array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position
    array_positions array_prepend array_remove array_replace array_to_string array_upper cardinality generate_series
    generate_subscripts unnest
    json_build_array json_build_object jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length
    jsonb_build_array jsonb_build_object jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object_agg
    jsonb_object_keys jsonb_path_exists jsonb_path_query_array jsonb_path_query_first jsonb_pretty jsonb_set
    jsonb_strip_nulls jsonb_typeof row_to_json to_json to_jsonb
    any_value avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every max min mode
    percentile_cont percentile_disc stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
    gen_random_uuid num_nonnulls num_nulls
    bool float4 float8 int2 int4 int8 numeric text timestamptz varchar
    current_database current_schema version
    """.split()  # noqa: SIM905 - two hundred words read better as words
)

# With `spanner`.
SPANNER_FUNCTIONS = frozenset(
    """
    approx_cosine_distance approx_dot_product approx_euclidean_distance bit_reverse bool_array cosine_distance date_bin
    dot_product euclidean_distance farm_fingerprint float32_array float64_array generate_uuid int64_array
    jsonb_query_array pending_commit_timestamp string_array timestamptz_add timestamptz_subtract
    score score_ngrams search search_ngrams search_substring snippet token tokenize_bool tokenize_fulltext
    tokenize_jsonb tokenize_ngrams tokenize_number tokenize_substring tokenlist_concat
    """.split()  # noqa: SIM905 - as above
)

# What they tell stands in the catalog: whoever calls them reads that.
CATALOG_FUNCTIONS = frozenset(
    """
    col_description format_type obj_description pg_encoding_to_char pg_function_is_visible pg_get_constraintdef
    pg_get_expr pg_get_indexdef pg_get_keywords pg_get_serial_sequence pg_get_userbyid pg_get_viewdef
    pg_table_is_visible pg_type_is_visible shobj_description to_regclass to_regtype
    """.split()  # noqa: SIM905 - as above
)

# In FROM: functions whose rows have one column, and that column's name; None for the alias or the function's own name.
ROW_FUNCTIONS = {
    "generate_series": None,
    "generate_subscripts": None,
    "jsonb_array_elements": "value",
    "jsonb_array_elements_text": "value",
    "jsonb_object_keys": None,
    "unnest": None,
}

# The functions that read a change stream are called after it.
CHANGE_STREAM_FUNCTIONS = ("read_json_", "read_proto_bytes_")

# Last part of a type's name -> how it is written here. `pg_catalog` stands before those the grammar knows.
TYPES = {
    "bool": "BOOLEAN",
    "boolean": "BOOLEAN",
    "bytea": "BYTEA",
    "date": "DATE",
    "float4": "REAL",
    "float8": "DOUBLE PRECISION",
    # "bigint: aliases int, int4, int8, integer".
    "int4": "BIGINT",
    "int8": "BIGINT",
    "serial": "BIGINT",
    "bigserial": "BIGINT",
    "jsonb": "JSONB",
    "numeric": "NUMERIC",
    # "text: alias for varchar" (Spanner's PostgreSQL data types).
    "text": "VARCHAR",
    "timestamptz": "TIMESTAMPTZ",
    "uuid": "UUID",
    "varchar": "VARCHAR",
}
SPANNER_TYPES = {"commit_timestamp": "SPANNER.COMMIT_TIMESTAMP", "tokenlist": "SPANNER.TOKENLIST"}

# Only in expressions: Spanner has no columns of them, or reads text as them.
CAST_TYPES = frozenset(
    """
    bit bpchar char cstring int2 interval json name oid time timestamp timetz unknown varbit
    """.split()  # noqa: SIM905 - as above
)
# A cast to one of these looks its text up in the catalog.
CATALOG_TYPES = frozenset({"regclass", "regnamespace", "regproc", "regprocedure", "regtype"})
