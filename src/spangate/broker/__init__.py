"""The broker: a verified identity becomes a short-lived Google access token. Pure: who talks to Google is adapters/."""
