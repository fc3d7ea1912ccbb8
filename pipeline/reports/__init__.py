"""Pages for people: the report of a run and the map of a collection."""
