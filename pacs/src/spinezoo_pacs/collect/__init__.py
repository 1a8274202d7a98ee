"""A set of lateral lumbar films from a PACS, without their patients."""
