"""Finding the rows of a Datanet that go with a question."""
