// Fibers, barriers, warp exchange, launch; and, with -DMG_CHECK, a small "compute-sanitizer":
// the kernel's translation unit is compiled with -fsanitize=thread but linked WITHOUT libtsan: the
// __tsan_* hooks below are ours.
#include <cstdarg>
#include <dlfcn.h>
#include <string>
#include <sys/mman.h>
#include <tuple>
#include <unordered_map>
#include <vector>
#include "cuda_shim.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define ASAN(x) x
#else
#define ASAN(x)
#endif

#if defined(__x86_64__)
asm(R"(.text
.globl mg_switch
.hidden mg_switch
.type mg_switch,@function
mg_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi); movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size mg_switch,.-mg_switch
)");
#elif defined(__aarch64__)
asm(R"(.text
.globl mg_switch
.hidden mg_switch
mg_switch:
  sub sp, sp, #160
  stp x19,x20,[sp,#0];  stp x21,x22,[sp,#16]; stp x23,x24,[sp,#32]; stp x25,x26,[sp,#48]; stp x27,x28,[sp,#64]; stp x29,x30,[sp,#80]
  stp d8,d9,[sp,#96];   stp d10,d11,[sp,#112]; stp d12,d13,[sp,#128]; stp d14,d15,[sp,#144]
  mov x9, sp; str x9,[x0]; mov sp, x1
  ldp x19,x20,[sp,#0];  ldp x21,x22,[sp,#16]; ldp x23,x24,[sp,#32]; ldp x25,x26,[sp,#48]; ldp x27,x28,[sp,#64]; ldp x29,x30,[sp,#80]
  ldp d8,d9,[sp,#96];   ldp d10,d11,[sp,#112]; ldp d12,d13,[sp,#128]; ldp d14,d15,[sp,#144]
  add sp, sp, #160; ret
)");
#endif
extern "C" void mg_switch(void** from_sp, void* to_sp);
extern "C" {
extern char __ehdr_start[] __attribute__((visibility("hidden"))),
    _end[] __attribute__((visibility("hidden")));
}  // this .so's image

namespace mg {
constexpr size_t STACK = 256 << 10, REDZONE = 64, ARENA = 256 << 10;
// A stack and the page before it are two entries in the system's list of mappings, of which a process
// has some 65,000, and each library of kernels has stacks of its own: only so many stay after a launch.
constexpr size_t KEPT = 32;
enum { READY, WAIT_BLOCK, WAIT_WARP, DONE };
struct Fiber {
    char* stack = nullptr;
};
struct T : Thread {
    int state;
    bool started, fenced;
    void* sp;
    int fiber;
    int line;
    unsigned clk;
    void* fake = nullptr;
};
struct Meet {
    unsigned mask = 0, arrived = 0, who = 0;
    int op = 0, line = 0;
    unsigned gen = 0;
    uint64_t v[2][32];
};
struct W {
    unsigned lanes, exited;
    Meet m[4];
};
Thread* cur;
uint3 g_bid;
dim3 g_bdim, g_gdim;
static std::vector<T> th;
static std::vector<W> wp;
static std::vector<Fiber> fibers;
static std::vector<int> freef;
static std::vector<uint32_t> vc;  // check mode: 32 clocks per thread, own warp only
static void* main_sp;
static unsigned alive, arrived, epoch;
static int bar_line, acc[3], res[3];
static bool bar_div;
static void (*k_entry)(void**);
static void** k_args;
static bool abandoned;
static char* arena;
static size_t arena_used, dyn_bytes, static_bytes;
static bool asked;  // for more than a block gets without asking: 48 KiB, whoever declares them
static int nslots;
static unsigned block_lin;
struct Region {
    char* p;
    size_t n, elem;
    const char* name;
    bool shared;
    size_t cell0;
};
static std::vector<Region> regs;
static std::string report;
static int nerr;
struct Err {
    int kind;
    void* pc;
    void* pc2;
    long n;
};
static std::vector<Err> errs;

static T* me() { return static_cast<T*>(cur); }
static void abandon();
enum {
    E_OOB_G,
    E_OOB_S,
    E_UNINIT_S,
    E_UNINIT_G,
    E_RACE_S,
    E_RACE_G,
    E_STACK,
    E_DEAD,
    E_DIV,
    E_LANE,
    E_MASK,
    E_SMEM,
    E_ALIGN,
    E_UB,
    E_MEMORY
};
static const char* ename[] = {"out-of-bounds global access",
                              "out-of-bounds shared access",
                              "read of uninitialised shared memory",
                              "read of uninitialised global memory",
                              "shared-memory race",
                              "global-memory race",
                              "access to another thread's stack",
                              "deadlock",
                              "divergent __syncthreads",
                              "shuffle reads a lane that takes no part",
                              "bad warp mask",
                              "too much shared memory",
                              "misaligned access",
                              "undefined behaviour",
                              "no memory for the stack of a thread"};
static void err(int kind, void* pc, void* pc2, const char* fmt, ...) {
    ++nerr;
    for (auto& e : errs)
        if (e.kind == kind && e.pc == pc && e.pc2 == pc2) {
            ++e.n;
            return;
        }
    errs.push_back({kind, pc, pc2, 1});
    if (errs.size() > 12) return;
    char b[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b, sizeof b, fmt, ap);
    va_end(ap);
    Dl_info d{}, d2{};
    if (pc) dladdr(pc, &d);
    if (pc2) dladdr(pc2, &d2);
    char h[700];
    snprintf(h, sizeof h, "%s: %s; block (%u,%u,%u) thread (%u,%u,%u) @%zx @%zx\n", ename[kind], b,
             g_bid.x, g_bid.y, g_bid.z, cur ? cur->t.x : 0, cur ? cur->t.y : 0, cur ? cur->t.z : 0,
             pc ? (size_t)((char*)pc - (char*)d.dli_fbase) : 0,
             pc2 ? (size_t)((char*)pc2 - (char*)d2.dli_fbase) : 0);
    report += h;
}

// ---- fibers
// ------------------------------------------------------------------------------------------------------------
ASAN(static const void* g_mb; static size_t g_ms;)
static void to_main(bool dying) {
    T* t = me();
    (void)dying;
    ASAN(__sanitizer_start_switch_fiber(dying ? nullptr : &t->fake, g_mb, g_ms);)
    mg_switch(&t->sp, main_sp);
    ASAN(__sanitizer_finish_switch_fiber(t->fake, nullptr, nullptr);)
}
static void wake_if_complete(T* t);
static void fiber_main() {
    ASAN(__sanitizer_finish_switch_fiber(nullptr, &g_mb, &g_ms);)
    k_entry(k_args);
    T* t = me();
    t->state = DONE;
    --alive;
    wake_if_complete(t);
    to_main(true);
    abort();
}
static bool new_stack() {
    char* s = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s == MAP_FAILED) return false;
    fibers.push_back({s});
    freef.push_back((int)fibers.size() - 1);
    return mprotect(s, 4096, PROT_NONE) == 0;
}
static void return_stacks() {
    while (fibers.size() > KEPT) {
        munmap(fibers.back().stack, STACK);
        fibers.pop_back();
    }
}
static void resume(T* t) {
    cur = t;
    if (!t->started) {
        t->started = true;
        if (freef.empty() && !new_stack()) {
            cur = nullptr;
            abandoned = true;
            err(E_MEMORY, nullptr, nullptr, "%zu threads have one", fibers.size());
            return;
        }
        t->fiber = freef.back();
        freef.pop_back();
        void** sp = (void**)(fibers[t->fiber].stack + STACK - 64);
#if defined(__x86_64__)
        *--sp = nullptr;
        *--sp = (void*)fiber_main;
        for (int i = 0; i < 6; ++i) *--sp = nullptr;
#else
        sp -= 20;
        memset(sp, 0, 160);
        sp[11] = (void*)fiber_main;
#endif
        t->sp = sp;
    }
    ASAN(void* fake; __sanitizer_start_switch_fiber(&fake, fibers[t->fiber].stack, STACK);)
    mg_switch(&main_sp, t->sp);
    ASAN(__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);)
    if (t->state == DONE) freef.push_back(t->fiber);
    cur = nullptr;
}
static void abandon() {
    abandoned = true;
    to_main(false);
    abort();
}

// ---- block barrier
// -----------------------------------------------------------------------------------------------------
static void release_block() {
#ifdef MG_CHECK
    if (alive < th.size())
        err(E_DIV, nullptr, (void*)(size_t)bar_line,
            "only %u of %zu threads reach the barrier in line %d, the others have returned", alive,
            th.size(), bar_line);
#endif
    ++epoch;
    arrived = 0;
    for (int i = 0; i < 3; ++i) {
        res[i] = acc[i];
    }
    acc[0] = 0;
    acc[1] = 1;
    acc[2] = 0;
    for (auto& t : th)
        if (t.state == WAIT_BLOCK) t.state = READY;
}
int sync(int kind, int pred, int line) {
    T* t = me();
    t->line = line;
    if (arrived == 0)
        bar_line = line;
    else if (bar_line != line)
        err(E_DIV, nullptr, (void*)(size_t)line,
            "threads of one block meet at different barriers, lines %d and %d", bar_line, line);
    ++arrived;
    acc[0] += pred != 0;
    acc[1] &= pred != 0;
    acc[2] |= pred != 0;
    if (arrived == alive)
        release_block();
    else {
        t->state = WAIT_BLOCK;
        to_main(false);
    }
    return kind ? res[kind - 1] : 0;
}
// ---- warp exchange
// -----------------------------------------------------------------------------------------------------
static bool complete(W& w, Meet& m) {
    unsigned eff = m.mask & w.lanes & ~w.exited;
    if (!m.arrived || (m.arrived & eff) != eff) return false;
#ifdef MG_CHECK
    if (m.arrived != (m.mask & w.lanes))
        err(E_MASK, nullptr, (void*)(size_t)m.line,
            "line %d: mask %08x names lanes that have returned (%08x take part)", m.line, m.mask,
            m.arrived);
#endif
    m.who = m.arrived;
    m.arrived = 0;
    ++m.gen;
    unsigned base = (unsigned)(&w - wp.data()) * 32;
    if (!vc.empty()) {  // join the participants' clocks
        uint32_t j[32] = {};
        for (int i = 0; i < 32; ++i)
            if (m.who >> i & 1)
                for (int k = 0; k < 32; ++k) j[k] = std::max(j[k], vc[(base + i) * 32 + k]);
        for (int i = 0; i < 32; ++i)
            if (m.who >> i & 1) {
                memcpy(&vc[(base + i) * 32], j, sizeof j);
                th[base + i].clk = ++vc[(base + i) * 32 + i];
            }
    }
    for (int i = 0; i < 32; ++i)
        if (m.who >> i & 1)
            if (th[base + i].state == WAIT_WARP) th[base + i].state = READY;
    return true;
}
Ex exchange(unsigned mask, uint64_t v, int op, int line) {
    T* t = me();
    W& w = wp[t->warp];
    t->line = line;
    if (!(mask >> t->lane & 1)) {
        err(E_MASK, nullptr, (void*)(size_t)line,
            "line %d: lane %u calls with mask %08x, which lacks it", line, t->lane, mask);
        mask |= 1u << t->lane;
    }
    Meet* m = nullptr;
    for (auto& x : w.m)
        if (x.mask == mask) {
            m = &x;
            break;
        }
    if (!m)
        for (auto& x : w.m)
            if (!x.arrived && !x.mask) {
                m = &x;
                break;
            }
    if (!m)
        for (auto& x : w.m)
            if (!x.arrived) {
                m = &x;
                break;
            }
    m->mask = mask;
    if (!m->arrived)
        m->op = op, m->line = line;
    else if (m->op != op || m->line != line)
        err(E_MASK, nullptr, (void*)(size_t)line,
            "lanes of one warp meet in different warp operations, lines %d and %d", m->line, line);
    unsigned par = m->gen & 1;
    m->v[par][t->lane] = v;
    m->arrived |= 1u << t->lane;
    if (!complete(w, *m)) {
        t->state = WAIT_WARP;
        to_main(false);
    }
    return {m->v[par], m->who};
}
uint64_t dead_lane(int lane, int line) {
    err(E_LANE, nullptr, (void*)(size_t)line, "line %d: lane %d", line, lane);
    return 0x7fc07fc07fc07fc0ull;
}
static void wake_if_complete(T* t) {
    W& w = wp[t->warp];
    w.exited |= 1u << t->lane;
    for (auto& m : w.m)
        if (m.arrived) complete(w, m);
    if (alive && arrived == alive) release_block();
}
// ---- shared memory
// -----------------------------------------------------------------------------------------------------
static std::vector<char> shadow_dirty;
static size_t add_region(char* p, size_t n, size_t elem, const char* name, bool shared);
static size_t dyn_off;
void* dyn_smem() { return arena + dyn_off; }
struct Sv {
    size_t off, n, elem;
    const char* name;
    bool live;
};
static std::vector<Sv> svars;
void* smem(Slot& s, size_t n, size_t elem, const char* name) {
    if (s.id < 0) {
        s.id = (int)svars.size();
        svars.push_back({0, n, elem, name, false});
    }
    Sv& v = svars[s.id];
    if (!v.live) {  // first use in this block
        arena_used = (arena_used + REDZONE + 15) & ~(size_t)15;
        v.off = arena_used;
        v.live = true;
        arena_used += n;
        static_bytes += n;
        if (arena_used > ARENA || (!asked && dyn_bytes + static_bytes > 49152)) {
            err(E_SMEM, nullptr, nullptr, "%zu bytes, %zu of them dynamic", dyn_bytes + static_bytes,
                dyn_bytes);
            abandon();
        }
        memset(arena + v.off, 0xff,
               n);  // NaN / -1: uninitialised reads show in the results as well
        add_region(arena + v.off, n, elem, name, true);
    }
    return arena + v.off;
}

// ---- check mode: shadow memory
// -------------------------------------------------------------------------------------------
#ifdef MG_CHECK
struct Acc {
    uint32_t t, e, c;
    void* pc;
    bool at;
};
struct Cell {
    Acc w, r[2];
    bool init;
};  // last writer, two readers that no single writer can be ordered after by luck
static std::vector<Cell> cells;
static size_t shared_cells0;
static Region* last;
static std::vector<unsigned> acquired;
static std::unordered_map<const void*, std::vector<unsigned>> published;
static char *img0, *img1, *rt0, *rt1;
static unsigned shared_regs0;
static size_t add_region(char* p, size_t n, size_t elem, const char* name, bool shared) {
    size_t c0 = cells.size();
    cells.resize(c0 + n / elem + 1);
    memset((void*)&cells[c0], 0, (n / elem + 1) * sizeof(Cell));
    regs.push_back({p, n, elem, name, shared, c0});
    last = nullptr;
    return c0;
}
static inline bool ordered(
    uint32_t t2, uint32_t e2, uint32_t c2, T* t,
    uint32_t me_id) {  // is the earlier access (t2,e2,c2) ordered before now?
    if (t2 == me_id) return true;
    uint32_t nt = (uint32_t)th.size();
    if (t2 / nt != block_lin)
        return std::find(acquired.begin(), acquired.end(), t2 / nt) !=
               acquired.end();    // another block: only over __threadfence + atomic
    if (e2 < epoch) return true;  // a block barrier lies between
    uint32_t o = t2 % nt;
    return o / 32 == t->warp &&
           vc[t->tid * 32 + (o & 31)] >= c2;  // a warp-level synchronisation lies between
}
enum { RD, WR, AT };
// ---- profile: what the memory system would see. Groups the accesses of one warp at one
// instruction (its k-th execution by each lane) ------
struct Pr {
    long req = 0, bytes = 0, units = 0, ideal = 0;
    int kind = 0;
    bool shared = false;
    const char* name = "";
};
static bool prof;
static std::unordered_map<void*, int> pcid;
static std::vector<Pr> prs;
static std::vector<void*> pcs;
static std::vector<std::vector<unsigned>> occ;
struct Req {
    uint32_t warp, pc, k, lane, n;
    char* a;
};
static std::vector<Req> reqs;
static void prof_note(T* t, char* a, size_t n, int kind, const Region& r, void* pc) {
    auto it = pcid.emplace(pc, (int)pcid.size());
    int id = it.first->second;
    if (it.second) {
        prs.emplace_back();
        pcs.push_back(pc);
        prs[id].kind = kind;
        prs[id].shared = r.shared;
        prs[id].name = r.name;
    }
    auto& o = occ[t->tid];
    if ((int)o.size() <= id) o.resize(id + 1, 0);
    reqs.push_back(
        {t->warp, (uint32_t)id, o[id]++, t->lane, (uint32_t)n,
         r.shared ? a : (char*)4096 + (a - r.p)});  // CuPy allocates at multiples of 512 bytes
}
static void prof_block() {
    std::sort(reqs.begin(), reqs.end(), [](const Req& a, const Req& b) {
        return std::tie(a.pc, a.warp, a.k, a.lane) < std::tie(b.pc, b.warp, b.k, b.lane);
    });
    for (size_t i = 0, j; i < reqs.size(); i = j) {
        for (j = i; j < reqs.size() && reqs[j].pc == reqs[i].pc && reqs[j].warp == reqs[i].warp &&
                    reqs[j].k == reqs[i].k;
             ++j) {
        }
        Pr& p = prs[reqs[i].pc];
        ++p.req;
        long bytes = 0;
        for (size_t k = i; k < j; ++k) bytes += reqs[k].n;
        p.bytes += bytes;
        if (!p.shared) {  // 32-byte sectors
            std::vector<size_t> s;
            for (size_t k = i; k < j; ++k)
                for (size_t q = (size_t)reqs[k].a / 32;
                     q <= ((size_t)reqs[k].a + reqs[k].n - 1) / 32; ++q)
                    s.push_back(q);
            std::sort(s.begin(), s.end());
            size_t u = std::unique(s.begin(), s.end()) - s.begin();
            p.units += (long)u;
            std::vector<char*> d;
            for (size_t k = i; k < j; ++k) d.push_back(reqs[k].a);
            std::sort(d.begin(), d.end());
            d.erase(std::unique(d.begin(), d.end()), d.end());
            p.ideal += (long)((d.size() * reqs[i].n + 31) / 32);
        } else {  // bank wavefronts: 32 banks of 4 bytes; 8-byte accesses by half warps, 16-byte by
                  // quarter warps
            uint32_t per = 32 / std::max(1u, reqs[i].n / 4);
            for (uint32_t g = 0; g < 32; g += per) {
                std::vector<size_t> w;
                for (size_t k = i; k < j; ++k)
                    if (reqs[k].lane >= g && reqs[k].lane < g + per)
                        for (size_t q = (size_t)reqs[k].a / 4;
                             q <= ((size_t)reqs[k].a + reqs[k].n - 1) / 4; ++q)
                            w.push_back(q);
                if (w.empty()) continue;
                std::sort(w.begin(), w.end());
                w.erase(std::unique(w.begin(), w.end()), w.end());
                int c[32] = {}, m = 0;
                for (size_t q : w) m = std::max(m, ++c[q & 31]);
                p.units += m;
                p.ideal += (long)((w.size() + 31) / 32);
            }
        }
    }
    reqs.clear();
    for (auto& o : occ) std::fill(o.begin(), o.end(), 0u);
}
static void access(void* addr, size_t n, int kind, void* pc) {
    T* t = me();
    if (!t) return;
    char* a = (char*)addr;
    char* stk = fibers[t->fiber].stack;
    if (a >= stk && a < stk + STACK) return;
    if ((n & (n - 1)) == 0 && ((size_t)a & (n - 1))) {
        err(E_ALIGN, pc, nullptr, "%zu bytes at an address that is %zu modulo %zu", n,
            (size_t)a % n, n);
        abandon();
    }
    Region* r = last;
    if (!r || a < r->p || a >= r->p + r->n) {
        r = nullptr;
        for (auto& x : regs)
            if (a >= x.p && a < x.p + x.n) {
                r = last = &x;
                break;
            }
    }
    if (!r || a + n > r->p + r->n) {
        if (a >= img0 && a < img1) return;  // constants and globals of the module
        const char* what = kind == RD ? "read" : "write";
        if (a >= arena && a < arena + ARENA) {
            Region* near = nullptr;
            for (auto& x : regs)
                if (x.shared && x.p <= a) near = &x;
            err(E_OOB_S, pc, nullptr, "%s of %zu bytes at %s%+ld (it has %zu bytes)", what, n,
                near ? near->name : "?", near ? (long)(a - near->p) : 0l, near ? near->n : 0);
            abandon();
        }
        for (auto& f : fibers)
            if (a >= f.stack && a < f.stack + STACK) {
                err(E_STACK, pc, nullptr, "%s", what);
                abandon();
            }
        Region* near = nullptr;
        long best = 0;
        for (auto& x : regs)
            if (!x.shared) {
                long d = a < x.p ? x.p - a : a - (x.p + x.n) + 1;
                if (!near || d < best) {
                    near = &x;
                    best = d;
                }
            }
        err(E_OOB_G, pc, nullptr, "%s of %zu bytes at %s%+ld (it has %zu bytes)", what, n,
            near ? near->name : "?", near ? (long)(a - near->p) : 0l, near ? near->n : 0);
        abandon();
    }
    if (prof) prof_note(t, a, n, kind, *r, pc);
    uint32_t id = block_lin * (uint32_t)th.size() + t->tid, ep = epoch, ck = t->clk;
    size_t i0 = (a - r->p) / r->elem, i1 = (a - r->p + n - 1) / r->elem;
    auto race = [&](const Acc& o, size_t i, const char* was) {
        if (o.pc && !(kind == AT && o.at) && !ordered(o.t, o.e, o.c, t, id))
            err(r->shared ? E_RACE_S : E_RACE_G, pc, o.pc,
                "%s[%zu] %s here, %s by thread %u of block %u", r->name, i,
                kind == RD ? "read" : "written", was, o.t % (uint32_t)th.size(),
                o.t / (uint32_t)th.size());
    };
    for (size_t i = i0; i <= i1; ++i) {
        Cell& c = cells[r->cell0 + i];
        if (kind != WR && !c.init) {
            err(r->shared ? E_UNINIT_S : E_UNINIT_G, pc, nullptr, "%s[%zu]", r->name, i);
            c.init = true;
        }
        race(c.w, i, "written");
        if (kind != RD) {
            race(c.r[0], i, "read");
            race(c.r[1], i, "read");
            c.w = {id, ep, ck, pc, kind == AT};
            c.init = true;
        }
        if (kind == RD) {
            Acc n{id, ep, ck, pc, false};
            int k = -1;
            for (int q = 0; q < 2 && k < 0; ++q)
                if (!c.r[q].pc || ordered(c.r[q].t, c.r[q].e, c.r[q].c, t, id)) k = q;
            if (k < 0 && c.r[0].t / 32 == c.r[1].t / 32 && c.r[0].t / 32 != id / 32) k = 1;
            if (k >= 0) c.r[k] = n;
        }
    }
}
void note_atomic(const void* p, size_t n, void* pc) {
    access((void*)p, n, AT, pc);
    auto& b = published[p];
    if (me()->fenced) b.push_back(block_lin);
    acquired.insert(acquired.end(), b.begin(), b.end());
}
void fence(int level) {
    if (level) me()->fenced = true;
}
}  // namespace mg
extern "C" {
#define H(N)                                                                                 \
    void __tsan_read##N(void* p) { mg::access(p, N, mg::RD, __builtin_return_address(0)); }  \
    void __tsan_write##N(void* p) { mg::access(p, N, mg::WR, __builtin_return_address(0)); } \
    void __tsan_unaligned_read##N(void* p) {                                                 \
        mg::access(p, N, mg::RD, __builtin_return_address(0));                               \
    }                                                                                        \
    void __tsan_unaligned_write##N(void* p) {                                                \
        mg::access(p, N, mg::WR, __builtin_return_address(0));                               \
    }                                                                                        \
    void __tsan_volatile_read##N(void* p) {                                                  \
        mg::access(p, N, mg::RD, __builtin_return_address(0));                               \
    }                                                                                        \
    void __tsan_volatile_write##N(void* p) {                                                 \
        mg::access(p, N, mg::WR, __builtin_return_address(0));                               \
    }
H(1) H(2) H(4) H(8) H(16) void __tsan_read_range(void* p, size_t n) {
    mg::access(p, n, mg::RD, __builtin_return_address(0));
}
void __tsan_write_range(void* p, size_t n) {
    mg::access(p, n, mg::WR, __builtin_return_address(0));
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void __tsan_vptr_update(void*, void*) {}
// the same trick for
// -fsanitize=alignment,bounds,signed-integer-overflow,shift,integer-divide-by-zero: our own
// handlers, no libubsan
struct Loc {
    const char* f;
    uint32_t l, c;
};
struct TM {
    Loc loc;
    void* type;
    uint8_t log_align, kind;
};
static const char* base(const char* p) {
    const char* q = p ? strrchr(p, '/') : nullptr;
    return q ? q + 1 : p ? p : "?";
}
void __ubsan_handle_type_mismatch_v1(TM* d, size_t p) {
    mg::err(mg::E_ALIGN, nullptr, d, "%s:%u: pointer is %zu modulo %zu", base(d->loc.f), d->loc.l,
            p & ((1u << d->log_align) - 1), (size_t)1 << d->log_align);
    mg::abandon();
}
void __ubsan_handle_out_of_bounds(Loc* d, size_t i) {
    mg::err(mg::E_UB, nullptr, d, "%s:%u: index %ld is out of the bounds of the array", base(d->f),
            d->l, (long)i);
    mg::abandon();
}
#define U(N, TXT)                                                       \
    void __ubsan_handle_##N(Loc* d, ...) {                              \
        mg::err(mg::E_UB, nullptr, d, "%s:%u: " TXT, base(d->f), d->l); \
    }
U(add_overflow, "signed overflow in +")
U(sub_overflow, "signed overflow in -") U(mul_overflow, "signed overflow in *")
    U(negate_overflow, "signed overflow in -x") U(divrem_overflow, "division by zero or overflow")
        U(shift_out_of_bounds, "bad shift")
}
namespace mg {
#else
static size_t add_region(char*, size_t, size_t, const char*, bool) { return 0; }
void note_atomic(const void*, size_t, void*) {}
void fence(int) {}
#endif

static std::vector<CpQ> cps;
CpQ& cpq() {
    if (cps.size() < th.size()) cps.resize(th.size());
    return cps[me()->tid];
}
// ---- launch
// --------------------------------------------------------------------------------------------------------------
static uint32_t rng;
static uint32_t rnd() {
    rng ^= rng << 13;
    rng ^= rng >> 17;
    rng ^= rng << 5;
    return rng;
}
static void permute(std::vector<unsigned>& o, unsigned n, int order) {
    o.resize(n);
    for (unsigned i = 0; i < n; ++i) o[i] = order == 1 ? n - 1 - i : i;
    if (order >= 2)
        for (unsigned i = n; i > 1; --i) std::swap(o[i - 1], o[rnd() % i]);
}
static void run_block(const std::vector<unsigned>& ord) {
    unsigned n = (unsigned)th.size();
    alive = n;
    arrived = 0;
    acc[0] = 0;
    acc[1] = 1;
    acc[2] = 0;
    arena_used = static_bytes = 0;
    for (auto& v : svars) v.live = false;
    for (auto& c : cps) c.n = c.group = 0;
#ifdef MG_CHECK
    regs.resize(shared_regs0);
    cells.resize(shared_cells0);
    last = nullptr;
    acquired.clear();
#endif
    arena_used = static_bytes = 0;
    dyn_off = 0;
    if (dyn_bytes) {
        memset(arena, 0xff, dyn_bytes);
        add_region(arena, dyn_bytes, 1, "dynamic shared memory", true);
        arena_used = dyn_bytes;
    }
    for (unsigned i = 0; i < n; ++i) {
        T& t = th[i];
        t.state = READY;
        t.started = t.fenced = false;
    }
    for (auto& w : wp) {
        w.exited = 0;
        for (auto& m : w.m) m.arrived = m.mask = 0;
    }
    if (!vc.empty())
        for (unsigned i = 0; i < n; ++i) {
            memset(&vc[i * 32], 0, 128);
            th[i].clk = vc[i * 32 + (i & 31)] = 1;
        }
    ++epoch;
    while (alive && !abandoned) {
        bool moved = false;
        for (unsigned i : ord)
            if (th[i].state == READY) {
                resume(&th[i]);
                moved = true;
                if (abandoned) break;
            }
        if (!moved && alive && !abandoned) {
            unsigned a = 0, b = 0;
            int la = 0, lb = 0;
            for (auto& t : th) {
                if (t.state == WAIT_BLOCK) ++a, la = t.line;
                if (t.state == WAIT_WARP) ++b, lb = t.line;
            }
            err(E_DEAD, nullptr, nullptr,
                "%u threads wait at __syncthreads (line %d), %u in a warp operation (line %d), %u "
                "have returned",
                a, la, b, lb, n - alive);
            abandoned = true;
        }
    }
}
static int launch(void (*entry)(void**), void** args, const uint32_t* cfg, const uint64_t* arr,
                  int narr, const char* const* names, char* out, size_t outn) {
    // cfg: grid xyz, block xyz, dynamic shared bytes, order (0 forward, 1 reverse, >=2 shuffled
    // with that seed)
    g_gdim = dim3(cfg[0], cfg[1], cfg[2]);
    g_bdim = dim3(cfg[3], cfg[4], cfg[5]);
    dyn_bytes = cfg[6];
    asked = cfg[8] & 2;
    unsigned n = cfg[3] * cfg[4] * cfg[5], nw = (n + 31) / 32;
    int order = (int)cfg[7];
    rng = cfg[7] * 2654435761u | 1;
    if (!arena)
        arena =
            (char*)mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    th.resize(n);
    wp.resize(nw);
    report.clear();
    errs.clear();
    nerr = 0;
    abandoned = false;
    epoch = 1;
    k_entry = entry;
    k_args = args;
    freef.clear();
    for (int i = (int)fibers.size() - 1; i >= 0; --i) freef.push_back(i);
    for (unsigned i = 0; i < n; ++i) {
        T& t = th[i];
        t.tid = i;
        t.lane = i & 31;
        t.warp = i >> 5;
        t.t = make_uint3(i % cfg[3], i / cfg[3] % cfg[4], i / cfg[3] / cfg[4]);
    }
    for (unsigned i = 0; i < nw; ++i)
        wp[i].lanes = i + 1 < nw || n % 32 == 0 ? 0xffffffffu : (1u << n % 32) - 1;
#ifdef MG_CHECK
    vc.assign((size_t)nw * 32 * 32, 0);
    published.clear();
    regs.clear();
    cells.clear();
    for (int i = 0; i < narr; ++i) {
        size_t c0 = add_region((char*)arr[4 * i], arr[4 * i + 1], arr[4 * i + 2], names[i], false);
        bool un = arr[4 * i + 3];
        for (size_t k = 0; k <= arr[4 * i + 1] / arr[4 * i + 2]; ++k) cells[c0 + k].init = !un;
    }
    prof = cfg[8] & 1;
    pcid.clear();
    prs.clear();
    pcs.clear();
    reqs.clear();
    occ.assign(n, {});
    shared_regs0 = (unsigned)regs.size();
    shared_cells0 = cells.size();
    img0 = __ehdr_start;
    img1 = _end;
#endif
    std::vector<unsigned> ob, ot;
    unsigned nb = cfg[0] * cfg[1] * cfg[2];
    permute(ob, nb, order);
    for (unsigned k = 0; k < nb && !abandoned; ++k) {
        block_lin = ob[k];
        g_bid = make_uint3(block_lin % cfg[0], block_lin / cfg[0] % cfg[1],
                           block_lin / cfg[0] / cfg[1]);
        if (k == 0 || order >= 2) permute(ot, n, order);
        run_block(ot);
#ifdef MG_CHECK
        if (prof) prof_block();
#endif
    }
#ifdef MG_CHECK
    if (prof && !nerr)
        for (size_t i = 0; i < prs.size(); ++i) {
            Pr& p = prs[i];
            Dl_info d{};
            dladdr(pcs[i], &d);
            char b[300];
            snprintf(b, sizeof b, "%s %s %s @%zx requests %ld bytes %ld %s %ld ideal %ld\n",
                     p.shared ? "shared" : "global",
                     p.kind == RD   ? "read"
                     : p.kind == WR ? "write"
                                    : "atomic",
                     p.name, (size_t)((char*)pcs[i] - (char*)d.dli_fbase), p.req, p.bytes,
                     p.shared ? "wavefronts" : "sectors", p.units, p.ideal);
            report += b;
        }
#endif
    return_stacks();
    snprintf(out, outn, "%s", report.c_str());
    return nerr;
}
}  // namespace mg
extern "C" int mg_launch(void (*entry)(void**), void** args, const uint32_t* cfg,
                         const uint64_t* arr, int narr, const char* const* names, char* out,
                         size_t outn) {
    return mg::launch(entry, args, cfg, arr, narr, names, out, outn);
}
