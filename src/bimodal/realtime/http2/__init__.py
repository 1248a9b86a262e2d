"""HTTP/2 (RFC 9113), server side: frames and connections without a socket, and the link that puts them on one."""
