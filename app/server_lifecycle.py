"""What Bokeh runs when it is told of this folder, before it makes the server: the door goes in."""

from app.door import install

install()
