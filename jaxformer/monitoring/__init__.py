"""What a run tells a person: the machine it found, its speed, its progress, its records and its curves."""
