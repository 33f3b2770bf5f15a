"""Whether a model is trained again: decisions as values, without servers. Rows are read and written by `perdure.metadata.repository`."""
