"""Notify: keeps an Alertmanager told of the alerts that fire, from the output topics alone.

`events` and `board` are pure: records in, alerts out. `follower` reads the topics, `alertmanager` posts, `process`
runs both. Nothing is kept on disk: a start reads the topics anew, and Alertmanager takes several senders of one alert
for one.
"""
