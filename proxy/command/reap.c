#include "proxy/command/command.h"
#include "proxy/command/show.h"
#include "proxy/command/table.h"
#include "reaper/error.h"
#include "reaper/kernel/ladder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_OLDER = 'o',
    KEY_ACTION = 'a',
    KEY_YES = 'y',
    KEY_PID = 256,
    KEY_CLIENT,
    KEY_BETWEEN,
    KEY_WATCH,
    KEY_WAITING,
    KEY_UNSEEN,
    KEY_EXPLAIN
};

static const char command[] = "lastack reap";

static const struct argp_option options[] = {
    {"older-than", KEY_OLDER, "DURATION", 0, "Leave younger ones alone (default 2m)", 0},
    {"action", KEY_ACTION, "ACTION", 0,
     "report, finish (FIN after what is queued), destroy (RST), or ladder: finish, and destroy where that "
     "fails"
     " (default report)",
     0},
    {"pid", KEY_PID, "PID[,PID...]", 0, "Only sockets that this process holds; may be repeated", 0},
    {"client-side", KEY_CLIENT, NULL, 0, "Also sockets that this host opened; a pool's are often no leak", 0},
    {"even-waiting", KEY_WAITING, NULL, 0,
     "Also sockets whose peer on this host is half-closed: it may be waiting for an answer, and takes the "
     "FIN "
     "for its end",
     0},
    {"even-unseen", KEY_UNSEEN, NULL, 0,
     "Also sockets whose owner is not visible: another process may be about to receive them", 0},
    {"explain", KEY_EXPLAIN, NULL, 0, "Print what keeps a socket from being touched, and what overrides it",
     0},
    {"between", KEY_BETWEEN, "DURATION", 0, "Time between the two dumps that must show it (default 1s)", 0},
    {"watch-for", KEY_WATCH, "DURATION", 0,
     "Watch that long first, by cookie: for sockets that keepalive makes look young", 0},
    {"yes", KEY_YES, NULL, 0, "Do it; without this, only say what would be done", 0},
    {0},
};

struct arguments {
    struct argument_survey survey;
    struct argument_pids pids;
    struct guard_policy policy;
    enum ladder_action action;
    uint64_t between_ms, watch_ms;
    bool yes, explain;
};

static enum ladder_action action_of(struct argp_state *state, const char *text)
{
    int action = ladder_action_parse(text);
    if (action < 0)
        argp_error(state, "--action: found '%s'; allowed: report, finish, destroy, ladder", text);
    return (enum ladder_action)action;
}

static void arguments_check(struct argp_state *state, struct arguments *arguments)
{
    if (arguments->explain)
        return;
    if (arguments->survey.ports.count == 0 && arguments->survey.to.count == 0)
        argp_error(state,
                   "--port is missing; say on which local port the leaks are, or --to which port they go");
    if (arguments->survey.program_is_part)
        argp_error(state,
                   "found '%s'; allowed: a port, or --program with the whole name: this ends what it finds",
                   arguments->survey.program);
    if (arguments->survey.program)
        arguments->policy.named_owner = true;
    if (arguments->yes && arguments->action == LADDER_REPORT)
        argp_error(state, "--yes does nothing with --action=report; allowed: finish, destroy, ladder");
}

static error_t option_parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->survey;
        return 0;
    case KEY_OLDER:
        arguments->policy.older_than_ms = argument_duration(state, "--older-than", text);
        return 0;
    case KEY_ACTION:
        arguments->action = action_of(state, text);
        return 0;
    case KEY_PID:
        argument_pids(state, "--pid", text, &arguments->pids);
        arguments->policy.named_owner = true;
        return 0;
    case KEY_CLIENT:
        arguments->policy.client_side = true;
        return 0;
    case KEY_WAITING:
        arguments->policy.even_waiting = true;
        return 0;
    case KEY_UNSEEN:
        arguments->policy.even_unseen = true;
        return 0;
    case KEY_EXPLAIN:
        arguments->explain = true;
        return 0;
    case KEY_BETWEEN:
        arguments->between_ms = argument_duration(state, "--between", text);
        return 0;
    case KEY_YES:
        arguments->yes = true;
        return 0;
    case KEY_WATCH:
        arguments->watch_ms = argument_duration(state, "--watch-for", text);
        return 0;
    case ARGP_KEY_END:
        arguments_check(state, arguments);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = option_parse,
    .children = argument_survey_children,
    .doc =
        "Finishes sockets that leak in CLOSE_WAIT, and proves it. At least one --port, or --to, must be "
        "given."
        "\v"
        "A socket is touched only when nothing speaks for it: two dumps show it in CLOSE_WAIT with the "
        "same cookie, it is older than the bound, its peer acknowledged nothing new in between and does not "
        "wait for an answer, a process that is seen holds it, and this end was the server. All of that is in "
        "the table that --explain prints; the cookie, the owner and the peer are looked at again at the "
        "moment of acting.\n"
        "\n"
        "The program's descriptor stays open either way: only the program can close it. Its next write "
        "fails.\n"
        "\n"
        "finish needs ptrace access to the owner (CAP_SYS_PTRACE for others' processes), destroy needs"
        " CAP_NET_ADMIN.\n"
        "\n"
        "Exit status: 0 nothing was due or all of it is gone, 1 something is due, is still there, has an "
        "owner that can't be seen, or failed, 2 wrong usage.",
};

/* ---- what may be done here ---- */

static const char *finish_loss(const struct ladder_rights *rights)
{
    switch (rights->finish) {
    case 0:
        return NULL;
    case -ENOSYS:
        return "this kernel has no pidfd_getfd (Linux 5.6 and later have it)";
    case -EACCES:
        return "only sockets of this user's own processes; for others run as root, or: setcap "
               "cap_sys_ptrace+ep LASTACK";
    case -EPERM:
        return rights->yama_scope >= 3
                   ? "kernel.yama.ptrace_scope is 3, which forbids it to everybody until a reboot"
                   : "it takes CAP_SYS_PTRACE here; run as root, or: setcap cap_sys_ptrace+ep LASTACK";
    default:
        return error_text(rights->finish);
    }
}

static const char *destroy_loss(const struct ladder_rights *rights)
{
    switch (rights->destroy) {
    case 0:
        return NULL;
    case -EOPNOTSUPP:
        return "this kernel was built without CONFIG_INET_DIAG_DESTROY";
    case -EPERM:
        return "it takes CAP_NET_ADMIN in this network namespace; run as root, or: setcap cap_net_admin+ep "
               "LASTACK";
    default:
        return error_text(rights->destroy);
    }
}

/* Says which rung is lost. Returns whether one that the action could use is left. */
static bool rights_print(const struct ladder_rights *rights, enum ladder_action action)
{
    bool finish = action == LADDER_FINISH || action == LADDER_BOTH;
    bool destroy = action == LADDER_DESTROY || action == LADDER_BOTH;
    if (finish && finish_loss(rights))
        fprintf(stderr, "lastack reap: finish: %s\n", finish_loss(rights));
    if (destroy && destroy_loss(rights))
        fprintf(stderr, "lastack reap: destroy: %s\n", destroy_loss(rights));
    return action == LADDER_REPORT || (finish && (rights->finish == 0 || rights->finish == -EACCES)) ||
           (destroy && rights->destroy == 0);
}

/* ---- targets ---- */

enum { HELD_MAX = 16 };

struct target {
    const struct leak *leak;
    enum guard guard;
    bool acted;
    struct ladder_result result;
    int outcome; /* enum ladder_outcome or an error; of acted ones */
    size_t held; /* descriptors that are still open, of those that we may see */
    bool seen;   /* we may see some */
};

struct plan {
    const struct arguments *arguments;
    struct survey survey;
    struct ladder_rights rights;
    struct target *targets;
    size_t target_count;
    size_t unseen; /* left alone only because their owners can't be seen */
    size_t due, outcomes[LADDER_OUTCOME_COUNT], failed, held;
};

static bool held_by_named(const struct survey *survey, const struct leak *leak,
                          const struct argument_pids *pids)
{
    struct survey_held held = survey_holders(survey, leak);
    for (size_t i = 0; i < held.count; i++)
        for (size_t k = 0; k < pids->count; k++)
            if (survey->owners.processes[held.first[i].process].pid == pids->pid[k])
                return true;
    return pids->count == 0;
}

static int plan_make(struct plan *plan)
{
    const struct survey *survey = &plan->survey;
    size_t count = 0;
    const struct leak **leaks = survey_oldest_first(survey, 0, &count);
    if (!leaks)
        return -ENOMEM;
    plan->target_count = 0;
    plan->targets = calloc(count + 1, sizeof *plan->targets);
    for (size_t i = 0; plan->targets && i < count; i++) {
        if (!held_by_named(survey, leaks[i], &plan->arguments->pids))
            continue;
        struct target *target = &plan->targets[plan->target_count++];
        target->leak = leaks[i];
        target->guard = guard_check(leaks[i], &plan->arguments->policy, survey->now_ms);
        plan->due += target->guard == GUARD_CLEAR;
        plan->unseen += target->guard == GUARD_UNSEEN;
    }
    free(leaks);
    return plan->targets ? 0 : -ENOMEM;
}

static void plan_act(struct plan *plan)
{
    for (size_t i = 0; i < plan->target_count; i++) {
        struct target *target = &plan->targets[i];
        if (target->guard != GUARD_CLEAR)
            continue;
        target->acted = true;
        target->result = ladder_climb(plan->survey.netlink, plan->survey.proc_fd, &plan->survey.owners,
                                      target->leak, &plan->arguments->policy, plan->arguments->action);
    }
}

/* Looks at all that was acted on; a FIN that is on its way to a living peer gets some time to be
 * acknowledged. Returns how many are not gone yet. */
static size_t outcomes_read(struct plan *plan)
{
    size_t waiting = 0;
    for (size_t i = 0; i < plan->target_count; i++) {
        struct target *target = &plan->targets[i];
        if (!target->acted || target->outcome == LADDER_GONE)
            continue;
        target->outcome = ladder_verify(plan->survey.netlink, target->leak);
        waiting += target->outcome == LADDER_LAST_ACK;
    }
    return waiting;
}

static bool still_holds(const struct plan *plan, const struct leak *leak, const struct owner_holder *holder)
{
    pid_t pid = plan->survey.owners.processes[holder->process].pid;
    return owner_holds(plan->survey.proc_fd, pid, holder->fd, leak->row.inode) == 1;
}

static size_t descriptors_held(const struct plan *plan, const struct leak *leak)
{
    struct survey_held held = survey_holders(&plan->survey, leak);
    size_t count = 0;
    for (size_t i = 0; i < held.count; i++)
        count += still_holds(plan, leak, &held.first[i]);
    return count;
}

static void plan_verify(struct plan *plan)
{
    enum { LOOKS = 20, BETWEEN_MS = 50 };
    for (int look = 0; outcomes_read(plan) > 0 && look < LOOKS; look++)
        show_sleep_ms(BETWEEN_MS);
    for (size_t i = 0; i < plan->target_count; i++) {
        struct target *target = &plan->targets[i];
        if (!target->acted)
            continue;
        target->held = descriptors_held(plan, target->leak);
        target->seen = survey_holders(&plan->survey, target->leak).count > 0;
        plan->held += target->held;
        if (target->outcome < 0)
            plan->failed++;
        else
            plan->outcomes[target->outcome]++;
    }
}

/* ---- output ---- */

static void verdict_cells(const struct target *target, struct table *table)
{
    if (!target->acted) {
        table_text(table, guard_name(target->guard));
        table_text(table, "-");
        table_text(table, "-");
        return;
    }
    if (target->result.error)
        table_format(table, "%s failed: %s", ladder_action_name(target->result.rung),
                     error_text(target->result.error));
    else
        table_text(table, ladder_action_name(target->result.rung));
    table_text(table, target->outcome < 0 ? error_text(target->outcome)
                                          : ladder_outcome_name((enum ladder_outcome)target->outcome));
    table_text(table, target->held ? "yes" : target->seen ? "no" : "?");
}

static void target_row(const struct plan *plan, const struct target *target, struct table *table)
{
    const struct leak *leak = target->leak;
    char text[DIAG_ENDPOINT_TEXT], age[SHOW_AGE_TEXT];
    table_text(table, diag_endpoint_text(&leak->row.id.local, text));
    table_text(table, diag_endpoint_text(&leak->row.id.remote, text));
    table_text(table, show_leak_age(&plan->survey, leak, age));
    table_text(table, triage_cause_name(leak->cause));
    table_text(table, triage_peer_name(leak->peer));
    show_owner_cells(&plan->survey, leak, table);
    if (plan->arguments->yes)
        verdict_cells(target, table);
    else
        table_text(table, guard_name(target->guard));
}

/* What was done, or would be, before what is left alone; no more than somebody reads. */
static void targets_print(const struct plan *plan)
{
    static const struct table_column columns[] = {
        {"LOCAL", false},    {"PEER", false},    {"AGE", true},      {"CAUSE", false},
        {"PEER END", false}, {"PID", true},      {"PROGRAM", false}, {"FD", true},
        {"VERDICT", false},  {"OUTCOME", false}, {"FD HELD", false},
    };
    struct table table;
    size_t shown = show_rows(&plan->arguments->survey, plan->target_count), rows = 0;
    /* The last two are of no interest as long as nothing is done. */
    bool dry = !plan->arguments->yes;
    table_init(&table, columns, sizeof columns / sizeof columns[0] - (dry ? 2 : 0));
    for (int due = 1; due >= 0; due--)
        for (size_t i = 0; i < plan->target_count && rows < shown; i++)
            if ((plan->targets[i].guard == GUARD_CLEAR) == due && ++rows)
                target_row(plan, &plan->targets[i], &table);
    if (rows)
        printf("\n");
    if (table_print(&table, stdout))
        fprintf(stderr, "lastack reap: can't print all of it: no memory\n");
    table_clear(&table);
    show_left_out(shown, plan->target_count, stdout);
}

/* By how much they miss the bound. */
static void young_print(const struct plan *plan)
{
    enum { KEEPALIVE_TIMER = 2 };
    char bound[SHOW_AGE_TEXT], oldest[SHOW_AGE_TEXT];
    uint64_t oldest_ms = 0;
    size_t kept_alive = 0;
    for (size_t i = 0; i < plan->target_count; i++) {
        kept_alive +=
            plan->targets[i].guard == GUARD_TOO_YOUNG && plan->targets[i].leak->row.timer == KEEPALIVE_TIMER;
        uint64_t quiet_ms = leak_quiet_ms(plan->targets[i].leak, plan->survey.now_ms);
        if (plan->targets[i].guard == GUARD_TOO_YOUNG && quiet_ms > oldest_ms)
            oldest_ms = quiet_ms;
    }
    printf("The oldest of these is %s, --older-than is %s.\n", show_age(oldest_ms, oldest),
           show_age(plan->arguments->policy.older_than_ms, bound));
    if (kept_alive)
        printf("%zu of them have keepalive, which makes them look young again at each probe: one look never "
               "sees "
               "them old.\nTo watch them first by their cookies: --watch-for %s.\n",
               kept_alive, show_age(plan->arguments->policy.older_than_ms, bound));
}

/* Why the others are left alone, one line a reason. */
static void guards_print(const struct plan *plan)
{
    size_t counts[GUARD_COUNT] = {0};
    for (size_t i = 0; i < plan->target_count; i++)
        counts[plan->targets[i].guard]++;
    for (enum guard guard = GUARD_CLEAR + 1; guard < GUARD_COUNT; guard++) {
        if (counts[guard] == 0)
            continue;
        printf("%zu left alone, %s: %s (overridden by: %s).\n", counts[guard], guard_name(guard),
               guard_why(guard), guard_override(guard));
        if (guard == GUARD_TOO_YOUNG)
            young_print(plan);
    }
}

static void outcome_print(const struct plan *plan)
{
    const struct arguments *arguments = plan->arguments;
    if (!arguments->yes) {
        printf("%zu found, %zu due. Nothing was done", plan->target_count, plan->due);
        if (plan->due && arguments->action != LADDER_REPORT)
            printf("; add --yes to do it (--action=%s)", ladder_action_name(arguments->action));
        else if (plan->due)
            printf("; to do something add --action=finish, destroy or ladder, and --yes");
        printf(".\n");
        return;
    }
    printf("%zu found, %zu due: %zu gone, %zu in last-ack, %zu still in close-wait", plan->target_count,
           plan->due, plan->outcomes[LADDER_GONE], plan->outcomes[LADDER_LAST_ACK],
           plan->outcomes[LADDER_STILL]);
    if (plan->failed)
        printf(", %zu unknown", plan->failed);
    printf(".\n");
    if (plan->held)
        printf("%zu descriptors stay open: only the programs that hold them can close them.\n", plan->held);
}

static json_t *held_json(const struct plan *plan, const struct leak *leak)
{
    struct survey_held held = survey_holders(&plan->survey, leak);
    json_t *array = json_array();
    for (size_t i = 0; i < held.count; i++)
        if (still_holds(plan, leak, &held.first[i]))
            json_array_append_new(array,
                                  json_pack("{s:i, s:i}", "pid",
                                            (int)plan->survey.owners.processes[held.first[i].process].pid,
                                            "fd", held.first[i].fd));
    return array;
}

static json_t *target_json(const struct plan *plan, const struct target *target)
{
    json_t *row = show_leak_json(&plan->survey, target->leak);
    json_object_set_new(row, "guard", json_string(guard_name(target->guard)));
    if (!target->acted)
        return row;
    json_object_set_new(row, "rung", json_string(ladder_action_name(target->result.rung)));
    json_object_set_new(row, "error",
                        target->result.error ? json_string(error_name(target->result.error)) : json_null());
    json_object_set_new(row, "outcome",
                        json_string(target->outcome < 0
                                        ? error_name(target->outcome)
                                        : ladder_outcome_name((enum ladder_outcome)target->outcome)));
    json_object_set_new(row, "fd_held_by", held_json(plan, target->leak));
    return row;
}

static json_t *loss_json(const char *loss)
{
    return loss ? json_string(loss) : json_null();
}

static int plan_json(const struct plan *plan)
{
    json_t *sockets = json_array();
    for (size_t i = 0; i < plan->target_count; i++)
        json_array_append_new(sockets, target_json(plan, &plan->targets[i]));
    return show_json(command,
                     json_pack("{s:s, s:b, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", //
                               "action", ladder_action_name(plan->arguments->action),               //
                               "done", plan->arguments->yes,                                        //
                               "older_than_ms", (json_int_t)plan->arguments->policy.older_than_ms,  //
                               "finish_lost", loss_json(finish_loss(&plan->rights)),                //
                               "destroy_lost", loss_json(destroy_loss(&plan->rights)),              //
                               "found", (json_int_t)plan->target_count,                             //
                               "due", (json_int_t)plan->due,                                        //
                               "gone", (json_int_t)plan->outcomes[LADDER_GONE],                     //
                               "last_ack", (json_int_t)plan->outcomes[LADDER_LAST_ACK],             //
                               "still", (json_int_t)plan->outcomes[LADDER_STILL],                   //
                               "unknown", (json_int_t)plan->failed,                                 //
                               "fds_held", (json_int_t)plan->held,                                  //
                               "sockets", sockets));
}

static void plan_text(const struct plan *plan)
{
    outcome_print(plan);
    guards_print(plan);
    show_unseen(&plan->survey, 0, stdout);
    show_going_there(&plan->survey, command, stdout);
    targets_print(plan);
}

/* ---- */

/* Two dumps, or as many as fit into the time to watch, so that every guard has what it needs, and who
 * holds what the second one showed. */
static int plan_look(struct plan *plan)
{
    struct survey *survey = &plan->survey;
    int error = show_look(survey, command);
    if (error)
        return error;
    uint64_t began_ms = show_clock_ms();
    do {
        show_sleep_ms(plan->arguments->between_ms);
        error = show_look(survey, command);
    } while (!error && show_clock_ms() - began_ms < plan->arguments->watch_ms);
    return error ? error : show_owners(survey, command);
}

static int reap(struct plan *plan)
{
    const struct arguments *arguments = plan->arguments;
    ladder_probe(plan->survey.netlink, plan->survey.proc_fd, &plan->rights);
    bool able = rights_print(&plan->rights, arguments->action);
    if (arguments->yes && !able) {
        fprintf(stderr, "lastack reap: no rung is left for --action=%s; nothing was done\n",
                ladder_action_name(arguments->action));
        return EXIT_FOUND;
    }
    if (plan_look(plan) || plan_make(plan))
        return EXIT_FOUND;
    if (arguments->yes) {
        plan_act(plan);
        plan_verify(plan);
    }
    int error = 0;
    if (arguments->survey.json)
        error = plan_json(plan);
    else
        plan_text(plan);
    if (error || !show_ports_exist(&plan->survey, command))
        return EXIT_FOUND;
    bool done = plan->due == plan->outcomes[LADDER_GONE] + plan->outcomes[LADDER_LAST_ACK];
    return done && plan->unseen == 0 ? EXIT_FINE : EXIT_FOUND;
}

/* The table of guards. An exit status. */
static int explain(void)
{
    static const struct table_column columns[] = {
        {"GUARD", false}, {"OVERRIDDEN BY", false}, {"LEFT ALONE BECAUSE", false}};
    struct table table;
    table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (enum guard guard = GUARD_CLEAR + 1; guard < GUARD_COUNT; guard++) {
        table_text(&table, guard_name(guard));
        table_text(&table, guard_override(guard));
        table_text(&table, guard_why(guard));
    }
    int error = table_print(&table, stdout);
    table_clear(&table);
    return error || fflush(stdout) == EOF ? EXIT_FOUND : EXIT_FINE;
}

int command_reap(int argc, char **argv)
{
    struct arguments arguments = {
        .action = LADDER_REPORT, .policy.older_than_ms = UINT64_C(120000), .between_ms = 1000};
    struct plan plan = {.arguments = &arguments};
    argument_parse(&parser, argc, argv, &arguments);
    if (arguments.explain)
        return explain();
    if (show_open(&plan.survey, command, &arguments.survey, DIAG_CLOSE_WAIT))
        return EXIT_FOUND;
    int status = reap(&plan);
    free(plan.targets);
    survey_close(&plan.survey);
    return status;
}
