"""Label Studio as plain values: what its messages mean (`messages`), how a campaign looks there (`projects`), and the `ports` to it."""
