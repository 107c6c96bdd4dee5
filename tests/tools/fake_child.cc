// What a shell cannot do without a race: wait for SIGTERM. Started by the scripts of the
// supervisor's tests with exec: fake_child TEXT exit|stay [relay FIFO] [tell FIFO].
// On SIGTERM it prints TEXT and, if told to exit, ends well. Lines that others write to the FIFO of
// `relay` go to fd 3, its --ready-fd; to the FIFO of `tell` it writes "ready" once it can be
// stopped.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const int signal_fd = signalfd(-1, &set, 0);
  int relay_fd = -1;
  for (int i = 3; i + 1 < argc; i += 2) {
    // Read-write: such a FIFO opens without a partner and never ends.
    const int fd = open(argv[i + 1], O_RDWR);
    if (strcmp(argv[i], "relay") == 0) relay_fd = fd;
    if (strcmp(argv[i], "tell") == 0 && write(fd, "ready\n", 6) != 6) return 2;
  }
  while (true) {
    pollfd fds[2] = {{signal_fd, POLLIN, 0}, {relay_fd, POLLIN, 0}};
    if (poll(fds, relay_fd < 0 ? 1 : 2, -1) < 0) return 2;
    char bytes[256];
    if (fds[1].revents != 0) {
      const ssize_t num_read = read(relay_fd, bytes, sizeof(bytes));
      if (num_read > 0 && write(3, bytes, num_read) != num_read) return 2;
    }
    if (fds[0].revents == 0) continue;
    signalfd_siginfo info;
    if (read(signal_fd, &info, sizeof(info)) != sizeof(info)) return 2;
    std::puts(argv[1]);
    std::fflush(stdout);
    if (strcmp(argv[2], "exit") == 0) return 0;
  }
}
