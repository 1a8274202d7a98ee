"""The study's four metrics, recognition of vertebrae, and tallies that add up exactly."""
