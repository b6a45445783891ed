"""What the images and docker-compose.yml need beside the product: secrets, Redis's users, a health check."""
