"""SQL and DDL -> what they touch. Pure: the ZetaSQL engine comes in as a port."""
