"""Files that people, tools and data sets bring, read with every complaint naming file and line."""
