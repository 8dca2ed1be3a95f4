"""Intent text -> syntax tree with positions -> checked policy. Pure: files come in as text."""
