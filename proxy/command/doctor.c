#include "proxy/command/command.h"
#include "proxy/command/show.h"
#include "reaper/error.h"
#include "reaper/kernel/diagnosis.h"
#include "reaper/kernel/text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char command[] = "lastack doctor";

enum { KEY_FOR = 'f', KEY_REMEDIES = 256 };

enum { WATCH_DEFAULT_MS = 3000 };

static const struct argp_option options[] = {
    {"for", KEY_FOR, "DURATION", 0, "How long to watch (default 3s)", 0},
    {"remedies", KEY_REMEDIES, NULL, 0, "Explain each kernel setting that people change for this", 0},
    {0},
};

struct arguments {
    struct argument_survey survey;
    uint64_t watch_ms;
    bool remedies;
};

static error_t option_parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->survey;
        return 0;
    case KEY_FOR:
        arguments->watch_ms = argument_duration(state, "--for", text);
        if (arguments->watch_ms < 100)
            argp_error(state, "--for: found '%s'; allowed: at least 100ms", text);
        return 0;
    case KEY_REMEDIES:
        arguments->remedies = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = option_parse,
    .children = argument_survey_children,
    .doc = "Says of each port why sockets pile up in CLOSE_WAIT, with its evidence, and what to run next.\v"
           "It changes nothing. A port is judged by its own sockets, accept queue and process.\n"
           "\n"
           "Exit status: 0 nothing leaks, 1 a diagnosis or a failure, 2 wrong usage.",
};

/* One service with what is wrong with it. */
struct patient {
    struct survey_service service;
    const struct evidence *evidence;
    struct verdict verdicts[DIAGNOSIS_COUNT];
    size_t verdict_count;
};

static bool is_well(const struct patient *patient)
{
    return patient->verdicts[0].diagnosis == DIAGNOSIS_NOTHING;
}

/* The worst first; of equals, the lower port. */
static int patient_order(const void *a, const void *b)
{
    const struct patient *left = a, *right = b;
    if (is_well(left) != is_well(right))
        return is_well(left) ? 1 : -1;
    if (left->verdicts[0].weight != right->verdicts[0].weight)
        return left->verdicts[0].weight < right->verdicts[0].weight ? 1 : -1;
    return left->service.port - right->service.port;
}

/* An array that the caller frees, or NULL without memory. */
static struct patient *patients_make(const struct evidence_set *set)
{
    assert(set->count > 0); /* evidence_gather() */
    struct patient *patients = calloc(set->count, sizeof *patients);
    for (size_t i = 0; patients && i < set->count; i++) {
        patients[i].service = set->services[i].service;
        patients[i].evidence = &set->services[i].evidence;
        patients[i].verdict_count = diagnose(patients[i].evidence, patients[i].verdicts);
    }
    if (patients)
        qsort(patients, set->count, sizeof *patients, patient_order);
    return patients;
}

/* ---- the answer ---- */

enum { SERVICE_TEXT = 64 };

static const char *service_text(struct survey_service service, char text[SERVICE_TEXT])
{
    if (service.port == 0)
        snprintf(text, SERVICE_TEXT, "Diagnosis");
    else if (service.client_side)
        snprintf(text, SERVICE_TEXT, "Connections of this host to port %u", service.port);
    else
        snprintf(text, SERVICE_TEXT, "Port %u", service.port);
    return text;
}

enum { NEXT_TEXT = 1536 };

static void next_command(const struct patient *patient, char text[NEXT_TEXT])
{
    diagnosis_next(patient->evidence, patient->verdicts[0].diagnosis, text, NEXT_TEXT);
}

/* What a remedy is set to here. */
static void remedy_value(const struct survey *survey, const struct evidence *evidence,
                         const struct remedy *remedy, char text[DIAGNOSIS_LINE])
{
    char path[96];
    if (!remedy->path) {
        if (evidence->owner_files_limit)
            snprintf(text, DIAGNOSIS_LINE, "%ju", (uintmax_t)evidence->owner_files_limit);
        else
            snprintf(text, DIAGNOSIS_LINE, "?");
        return;
    }
    snprintf(path, sizeof path, "sys/%s", remedy->path);
    evidence_read(survey, path, text, DIAGNOSIS_LINE);
    text[strcspn(text, "\n")] = '\0';
    text_clean(text);
    if (text[0] == '\0')
        snprintf(text, DIAGNOSIS_LINE, "not here");
}

static void patient_print(const struct patient *patient)
{
    const struct owner_process *owner = patient->evidence->owner;
    char name[SERVICE_TEXT], next[NEXT_TEXT];
    for (size_t i = 0; i < patient->verdict_count; i++) {
        const struct verdict *verdict = &patient->verdicts[i];
        printf("%s: %s\n", i ? "And" : service_text(patient->service, name),
               diagnosis_text(verdict->diagnosis));
        if (i == 0 && owner && !is_well(patient))
            printf("  - The program is %s, pid %d, known as: %.80s\n", owner->program, owner->pid,
                   owner_known_as(owner));
        for (size_t k = 0; k < verdict->line_count; k++)
            printf("  - %s\n", verdict->line[k]);
    }
    next_command(patient, next);
    printf("Run next: %s\n\n", next);
}

/* Whether it helps: once, or of each service where the answers differ. */
static void helps_print(const struct remedy *remedy, const struct patient *patients, size_t count)
{
    char first[DIAGNOSIS_LINE], other[DIAGNOSIS_LINE], name[SERVICE_TEXT];
    bool same = true;
    remedy->helps(patients[0].evidence, patients[0].verdicts[0].diagnosis, first);
    for (size_t i = 1; i < count; i++) {
        remedy->helps(patients[i].evidence, patients[i].verdicts[0].diagnosis, other);
        same = same && strcmp(first, other) == 0;
    }
    if (same)
        printf("      Helps here? %s\n", first);
    for (size_t i = 0; !same && i < count; i++) {
        remedy->helps(patients[i].evidence, patients[i].verdicts[0].diagnosis, other);
        printf("      %s: helps here? %s\n", service_text(patients[i].service, name), other);
    }
}

static void remedies_print(const struct survey *survey, const struct patient *patients, size_t count)
{
    size_t row_count;
    const struct remedy *rows = remedies(&row_count);
    printf("Kernel settings that people change for this:\n\n");
    for (size_t i = 0; i < row_count; i++) {
        char value[DIAGNOSIS_LINE];
        remedy_value(survey, patients[0].evidence, &rows[i], value);
        printf("  %s = %s\n      %s\n", rows[i].name, value, rows[i].does);
        helps_print(&rows[i], patients, count);
    }
}

static bool helps_any(const struct remedy *remedy, const struct patient *patients, size_t count)
{
    char text[DIAGNOSIS_LINE];
    for (size_t i = 0; i < count; i++) {
        remedy->helps(patients[i].evidence, patients[i].verdicts[0].diagnosis, text);
        if (strncmp(text, "No", 2) != 0)
            return true;
    }
    return false;
}

/* In one line which of the settings help. */
static void remedies_sum(const struct patient *patients, size_t count)
{
    size_t row_count, named = 0;
    const struct remedy *rows = remedies(&row_count);
    printf("Of the %zu settings that people change for this, ", row_count);
    for (size_t i = 0; i < row_count; i++)
        if (helps_any(&rows[i], patients, count))
            printf("%s%s", named++ ? ", " : "", rows[i].name);
    printf(named ? " may help in part; --remedies explains each.\n"
                 : "none helps; --remedies explains each.\n");
}

static int doctor_text(const struct survey *survey, const struct patient *patients, size_t count,
                       bool remedies)
{
    for (size_t i = 0; i < count; i++)
        patient_print(&patients[i]);
    show_unseen(survey, EVIDENCE_SYMPTOM_MS, stdout);
    show_going_there(survey, command, stdout);
    if (remedies)
        remedies_print(survey, patients, count);
    else if (!is_well(&patients[0]))
        remedies_sum(patients, count);
    return fflush(stdout) == EOF ? -EIO : 0;
}

static json_t *verdict_json(const struct verdict *verdict)
{
    json_t *lines = json_array();
    for (size_t i = 0; i < verdict->line_count; i++)
        json_array_append_new(lines, json_string(verdict->line[i]));
    return json_pack("{s:s, s:s, s:I, s:o}", "diagnosis", diagnosis_name(verdict->diagnosis), "text",
                     diagnosis_text(verdict->diagnosis), "sockets", (json_int_t)verdict->weight, "evidence",
                     lines);
}

static json_t *remedies_json(const struct survey *survey, const struct patient *patient)
{
    size_t count;
    const struct remedy *rows = remedies(&count);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        char value[DIAGNOSIS_LINE], helps[DIAGNOSIS_LINE];
        remedy_value(survey, patient->evidence, &rows[i], value);
        rows[i].helps(patient->evidence, patient->verdicts[0].diagnosis, helps);
        json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:s}", "name", rows[i].name, "value", value,
                                               "does", rows[i].does, "helps", helps));
    }
    return array;
}

static json_t *owner_json(const struct owner_process *owner)
{
    return owner
               ? json_pack("{s:i, s:s, s:s, s:s}", "pid", (int)owner->pid, "program", owner->program, //
                           "known_as", owner_known_as(owner), "process_state", owner_state_name(owner->state))
               : json_null();
}

static json_t *patient_json(const struct survey *survey, const struct patient *patient)
{
    const struct evidence *evidence = patient->evidence;
    struct survey_service service = patient->service;
    char next[NEXT_TEXT];
    json_t *verdicts = json_array();
    for (size_t i = 0; i < patient->verdict_count; i++)
        json_array_append_new(verdicts, verdict_json(&patient->verdicts[i]));
    next_command(patient, next);
    return json_pack("{s:o, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:s}", //
                     "port", service.port ? json_integer(service.port) : json_null(),          //
                     "side", service.client_side ? "client" : "server",                        //
                     "diagnosis", diagnosis_name(patient->verdicts[0].diagnosis),              //
                     "verdicts", verdicts,                                                     //
                     "close_wait", (json_int_t)evidence->close_wait,                           //
                     "established", (json_int_t)evidence->established,                         //
                     "backlog_used", (json_int_t)evidence->backlog_used,                       //
                     "backlog_size", (json_int_t)evidence->backlog_size,                       //
                     "descriptors", (json_int_t)evidence->owner_files,                         //
                     "descriptors_limit", (json_int_t)evidence->owner_files_limit,             //
                     "descriptors_dead", (json_int_t)evidence->owner_dead,                     //
                     "owner", owner_json(evidence->owner),                                     //
                     "settings", remedies_json(survey, patient),                               //
                     "next", next);
}

static int doctor_json(const struct survey *survey, const struct patient *patients, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, patient_json(survey, &patients[i]));
    return show_json(command,
                     json_pack("{s:s, s:f, s:I, s:I, s:o}",                                    //
                               "diagnosis", diagnosis_name(patients[0].verdicts[0].diagnosis), //
                               "accepted_per_s", patients[0].evidence->accepted_per_s,         //
                               "going_there", (json_int_t)survey->going_there,                 //
                               "not_visible",                                                  //
                               (json_int_t)survey_unseen(survey, EVIDENCE_SYMPTOM_MS), "ports", array));
}

static int answer(const struct survey *survey, const struct evidence_set *set,
                  const struct arguments *arguments)
{
    struct patient *patients = patients_make(set);
    if (!patients) {
        fprintf(stderr, "%s: no memory\n", command);
        return EXIT_FOUND;
    }
    int error = arguments->survey.json ? doctor_json(survey, patients, set->count)
                                       : doctor_text(survey, patients, set->count, arguments->remedies);
    bool well = is_well(&patients[0]) && survey->going_there == 0;
    free(patients);
    return error || !well ? EXIT_FOUND : EXIT_FINE;
}

/* Two looks, some time apart, and what they say. 0 or a negative error, told. */
static int watch(struct survey *survey, uint64_t watch_ms, struct evidence_set *set)
{
    struct evidence_sample *samples = calloc(2, sizeof *samples);
    int error = samples ? evidence_sample(survey, show_clock_ms(), &samples[0]) : -ENOMEM;
    if (!error) {
        show_sleep_ms(watch_ms);
        error = evidence_sample(survey, show_clock_ms(), &samples[1]);
    }
    if (!error)
        error = evidence_gather(survey, &samples[0], &samples[1], set);
    if (samples) {
        evidence_sample_clear(&samples[0]);
        evidence_sample_clear(&samples[1]);
    }
    free(samples);
    if (error == -ESRCH || error == -ENOTUNIQ)
        return show_program_failure(survey, command, error);
    return error ? show_failure(command, "can't look at the kernel's sockets", error) : 0;
}

static int doctor(struct survey *survey, const struct arguments *arguments)
{
    struct evidence_set set = {0};
    int status = EXIT_FOUND;
    if (watch(survey, arguments->watch_ms, &set) == 0 && show_ports_exist(survey, command))
        status = answer(survey, &set, arguments);
    evidence_clear(&set);
    return status;
}

int command_doctor(int argc, char **argv)
{
    struct arguments arguments = {.watch_ms = WATCH_DEFAULT_MS};
    struct survey survey;
    argument_parse(&parser, argc, argv, &arguments);
    if (show_open(&survey, command, &arguments.survey, DIAG_CLOSE_WAIT))
        return EXIT_FOUND;
    int status = doctor(&survey, &arguments);
    survey_close(&survey);
    return status;
}
