"""The routes, by subject. Each verifies, translates and forwards; none of them decides."""
