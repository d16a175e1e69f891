"""Audio files by their format: what a file is, whether all of it is there, and its samples.

`kinds` tells what some bytes are, `containers` and `chunks` whether they are whole; `riff`, `flac`,
`ogg` and `mpeg` count what a stream holds, and `sndfile` and `ffmpeg` decode it.
"""
