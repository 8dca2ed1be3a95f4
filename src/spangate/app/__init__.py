"""What the commands do: parts of every layer put together. No parsing of arguments, no rendering."""
