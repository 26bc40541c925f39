"""What peers announce, and which announcements may be believed."""
