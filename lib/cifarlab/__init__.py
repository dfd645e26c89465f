"""The thin library behind the lab book. Import its modules; this file runs nothing."""
