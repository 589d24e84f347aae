/* os/notify.h - tells the service manager of this program's state: one datagram of text to the
 * socket that it named in NOTIFY_SOCKET, as systemd's sd_notify sends. */
#ifndef SLUICE_OS_NOTIFY_H
#define SLUICE_OS_NOTIFY_H

/* path: of a socket, "@name" in the abstract namespace, or NULL: nobody asked. Fails in silence:
 * the manager notices a missing message by itself. Any thread. */
void notify_send(const char *path, const char *state);

#endif
