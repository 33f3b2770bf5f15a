"""The only imports of outside libraries: one port of `perdure.ports` each."""
