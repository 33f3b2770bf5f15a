"""Built-in trainers: each one is a function on the contract of `perdure.jobs.trainer`."""
