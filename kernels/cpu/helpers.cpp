// Threads that share the pieces of a job, and stay awake for a while when they have none.
#include <pthread.h>
#include <sched.h>
#include <atomic>
#include <chrono>
#include "helpers.h"

static inline void rest() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Helpers {
    static constexpr int MOST = 255;                                // helpers
    static constexpr auto AWAKE = std::chrono::microseconds(2000);  // how long a helper looks for the next job before it sleeps

    // The job in one number, so that who takes a piece by an exchange knows that it is of this job: how often there was one,
    // how many threads may work, pieces, and pieces taken.
    std::atomic<uint64_t> ticket{0};
    static uint64_t pieces(uint64_t t) { return t >> 16 & 0xffff; }
    static uint64_t taken(uint64_t t) { return t & 0xffff; }
    static int threads(uint64_t t) { return t >> 32 & 0xff; }

    void (*run)(void *, size) = nullptr;  // valid while a piece is taken and not done
    void *job = nullptr;
    std::atomic<size> done{0};
    std::atomic<int> asleep{0};
    std::atomic<bool> wanted{false};  // whether it is worth while to look for the next job
    pthread_t born[MOST];
    int count = 0, apart = -1;  // and the processor that they keep off
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t begun = PTHREAD_COND_INITIALIZER;

    // Carry a piece out; whether there was one. `place`: 0 for who brings the job, 1, 2, … for helpers.
    bool piece(int place) {
        uint64_t t = ticket.load(std::memory_order_acquire);
        while (taken(t) < pieces(t) && place < threads(t))
            if (ticket.compare_exchange_weak(t, t + 1, std::memory_order_acq_rel)) {
                run(job, taken(t));
                done.fetch_add(1, std::memory_order_release);
                return true;
            }
        return false;
    }

    void help(int place) {
        for (;;) {
            while (piece(place)) {
            }
            const auto until = std::chrono::steady_clock::now() + AWAKE;
            const uint64_t seen = ticket.load();
            while (ticket.load() == seen && wanted.load() && std::chrono::steady_clock::now() < until) {
                for (int i = 0; i < 32 && ticket.load(std::memory_order_relaxed) == seen; i++) rest();
                sched_yield();  // to any other thread that has work
            }
            if (ticket.load() != seen) continue;
            pthread_mutex_lock(&lock);
            asleep++;
            while (ticket.load() == seen) pthread_cond_wait(&begun, &lock);
            asleep--;
            pthread_mutex_unlock(&lock);
        }
    }

    struct Birth {
        Helpers *helpers;
        int place;
    };

    static void *live(void *born) {
        Birth birth = *(Birth *)born;
        delete (Birth *)born;
        birth.helpers->help(birth.place);
        return nullptr;
    }

    void grow(int wanted) {
        while (count < wanted && count < MOST) {
            Birth *birth = new Birth{this, count + 1};
            if (pthread_create(&born[count], nullptr, live, birth)) return delete birth;  // there are as many as there may be
            pthread_detach(born[count++]);
            apart = -1;
        }
    }

    // Who wakes a thread often finds it on its own processor, where it has to wait: keep the helpers off the caller's.
    void keep_apart() {
#ifdef __linux__
        const int here = sched_getcpu();
        cpu_set_t others;
        if (here == apart || here < 0 || sched_getaffinity(0, sizeof others, &others)) return;
        apart = here;
        CPU_CLR(here, &others);
        for (int i = 0; i < count && CPU_COUNT(&others); i++) pthread_setaffinity_np(born[i], sizeof others, &others);
#endif
    }

   public:
    // Others want the cores: there is nothing to look for until the next job.
    void sleep() { wanted.store(false); }

    // run(job, i) for all i below n, by at most `most` threads; alone, where the helpers have a job already.
    void share(void (*run)(void *, size), void *job, size n, int most) {
        if (most < 2 || n < 2 || n > 0xffff || busy.test_and_set(std::memory_order_acquire)) {
            for (size i = 0; i < n; i++) run(job, i);
            return;
        }
        most = most > MOST ? MOST : most;
        grow(most - 1);
        keep_apart();
        this->run = run, this->job = job;
        done.store(0), wanted.store(true);
        ticket.store(((ticket.load() >> 40) + 1) << 40 | uint64_t(most) << 32 | uint64_t(n) << 16);
        if (asleep.load()) {
            pthread_mutex_lock(&lock);
            pthread_cond_broadcast(&begun);
            pthread_mutex_unlock(&lock);
        }
        while (piece(0)) {
        }
        while (done.load(std::memory_order_acquire) < n) rest();
        busy.clear(std::memory_order_release);
    }
};

// The helpers of this process: after a fork the child has none of its parent's threads, and gets helpers of its own.
static Helpers *helpers() {
    static Helpers *found = nullptr;
    static const int told = pthread_atfork(nullptr, nullptr, [] { found = new Helpers; });
    static Helpers *first = found = new Helpers;
    (void)told, (void)first;
    return found;
}

extern "C" {
void share(void (*run)(void *, size), void *job, size n, int most) { helpers()->share(run, job, n, most); }
void go_to_sleep() { helpers()->sleep(); }
}
