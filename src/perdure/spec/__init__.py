"""The specification of a pipeline: a module for each larger part; `perdure.spec.pipeline` holds the whole."""
