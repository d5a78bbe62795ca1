"""Options: their schema, their validation, and the instantiation of the components they name."""
