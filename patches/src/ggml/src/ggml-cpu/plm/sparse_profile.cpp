#include "sparse_profile.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace plm {

namespace {

struct live_count {
    int64_t live = 0;
    int64_t all  = 0;
};

struct registry {
    std::mutex                        mutex;
    std::map<std::string, live_count> counts;

    ~registry() {
        for (const auto & [name, count] : counts) {
            fprintf(stderr, "plm-live %s %lld %lld\n", name.c_str(), (long long) count.live, (long long) count.all);
        }
    }
};

registry & totals() {
    static registry instance;
    return instance;
}

}  // namespace

bool profile_is_on() {
    static const bool on = [] {
        const char * value = getenv("PLM_EDGE_PROFILE");
        return value && *value && std::string(value) != "0";
    }();
    return on;
}

void profile_live(const ggml_tensor * weights, int64_t n_live, int64_t n_all) {
    if (!profile_is_on()) {
        return;
    }
    registry &                        all = totals();
    const std::lock_guard<std::mutex> lock(all.mutex);
    live_count &                      count = all.counts[weights->name];
    count.live += n_live;
    count.all += n_all;
}

}  // namespace plm
