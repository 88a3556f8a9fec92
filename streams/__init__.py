"""The log: where records come in, in order. It knows no table and no rule."""
