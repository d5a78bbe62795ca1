"""Options: their schema, their validation, and the objects that are built from them."""
