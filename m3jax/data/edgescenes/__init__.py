"""EdgeScenes: generated scenes, sounds and questions, with the truth about each."""
