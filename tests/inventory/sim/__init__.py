"""A seeded simulation of the shipped inventory: its app, its SQL, on faulty ports and own time."""
