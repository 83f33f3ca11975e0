// What init does for adbd on a phone, done before main(): system properties from the environment
// (outside Android they live in the process), the phone's root as the only file system it can see,
// and the shell user. Loading comes first, so adbd's own libraries need not be on the phone.
#include <cstdio>
#include <cstdlib>
#include <grp.h>
#include <string>
#include <unistd.h>

#include <android-base/properties.h>
#include <android-base/strings.h>

namespace {

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::_Exit(1);
}

void set_properties(const char* list) {
    for (const std::string& entry : android::base::Split(list, ";")) {
        const auto equals = entry.find('=');
        if (equals != std::string::npos) {
            android::base::SetProperty(entry.substr(0, equals), entry.substr(equals + 1));
        }
    }
}

void become_shell_user(const char* root) {
    constexpr gid_t inet = 3003, shell = 2000;
    if (chroot(root) != 0 || chdir("/") != 0) fail(root);
    if (setgroups(1, &inet) != 0 || setgid(shell) != 0 || setuid(shell) != 0) fail("setuid");
}

__attribute__((constructor)) void prepare() {
    if (const char* list = std::getenv("ADBD_PROPERTIES")) set_properties(list);
    if (const char* root = std::getenv("ADBD_ROOT")) become_shell_user(root);
    unsetenv("ADBD_PROPERTIES");
    unsetenv("ADBD_ROOT");
}

}  // namespace
