"""The pages: signing in, labeling, campaigns, approvals. Server-rendered; a browser is known by its cookie, and each change by a token."""
