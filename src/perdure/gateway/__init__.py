"""The HTTP gateway: campaigns, tasks, answers, web hooks and approvals. It verifies, translates and writes rows; workflows act on them."""
