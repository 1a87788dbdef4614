"""Layouts: how a stretch is divided over devices, and the stages that follow."""
