// Doist's own TypeScript SDK makes a whole tour of the sandbox: `node tour.mjs PART`, with what it needs as JSON in the environment
// variable TOUR. The SDK checks the shape of every answer and throws where one is not as it expects.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'

const here = JSON.parse(process.env.TOUR)
const sdk = await import(here.sdk)
const api = new sdk.TodoistApi(here.token, { baseUrl: here.address })
const refused = (status) => (error) => error instanceof sdk.TodoistRequestError && error.httpStatusCode === status
const command = (type, args, tempId) => ({ type, uuid: randomUUID(), args, ...(tempId ? { tempId } : {}) })

const parts = {
    async consent() {
        assert.equal(
            sdk.getAuthorizationUrl({ clientId: here.clientId, permissions: ['data:read', 'task:add'], state: 's', baseUrl: here.address }),
            `${here.address}/oauth/authorize?client_id=${here.clientId}&scope=data:read,task:add&state=s`,
        )
    },

    async tokens() {
        const { address: baseUrl, clientId, clientSecret, code } = here
        const given = await sdk.getAuthToken({ clientId, clientSecret, code }, { baseUrl })
        assert.equal(given.expiresIn, 3600)
        assert.equal(given.tokenType, 'Bearer')
        const next = await sdk.refreshAuthToken({ clientId, clientSecret, refreshToken: given.refreshToken }, { baseUrl })
        assert.notEqual(next.refreshToken, given.refreshToken)
        const user = await new sdk.TodoistApi(next.accessToken, { baseUrl }).getUser()
        assert.equal(user.fullName, 'Ada')
        assert.ok(await sdk.revokeToken({ clientId, clientSecret, token: next.accessToken }, { baseUrl }))
        await assert.rejects(new sdk.TodoistApi(next.accessToken, { baseUrl }).getUser(), refused(401))
        await assert.rejects(sdk.getAuthToken({ clientId, clientSecret, code }, { baseUrl }), refused(400))
        await assert.rejects(sdk.refreshAuthToken({ clientId, clientSecret, refreshToken: 'none' }, { baseUrl }), refused(400))
        const made = await sdk.registerClient({ redirectUris: ['https://app.example/callback'], clientName: 'A tour', scope: ['data:read'] }, { baseUrl })
        assert.match(made.clientId, /^tdd_/)
    },

    async read() {
        const everything = await api.sync({ syncToken: '*', resourceTypes: ['all'] })
        assert.equal(everything.fullSync, true)
        assert.equal(everything.user.fullName, 'Ada')
        const names = (objects) => objects.map((each) => each.name ?? each.content ?? each.type)
        assert.deepEqual(names(everything.projects), ['Inbox', 'Home', 'Analytical Engine'])
        assert.deepEqual(names(everything.sections), ['Cards'])
        assert.deepEqual(names(everything.labels), ['errand'])
        assert.deepEqual(names(everything.reminders), ['relative'])
        assert.equal(everything.items.length, 4)
        assert.equal(everything.notes.length, 1)
        const nothing = await api.sync({ syncToken: everything.syncToken, resourceTypes: ['all'] })
        assert.equal(nothing.fullSync, false)
        assert.deepEqual(nothing.items, [])
        await assert.rejects(api.sync({ syncToken: 'made up', resourceTypes: ['items'] }), refused(400))
    },

    async write() {
        const { syncToken } = await api.sync({ syncToken: '*', resourceTypes: ['items'] })
        const commands = [
            command('project_add', { name: 'Garden' }, 'garden'),
            command('section_add', { name: 'Roses', projectId: 'garden' }, 'roses'),
            command('item_add', { content: 'Cut them', projectId: 'garden', sectionId: 'roses', due: { string: 'every day' } }, 'cut'),
            command('item_add', { content: 'Water them', parentId: 'cut' }, 'water'),
            command('note_add', { itemId: 'cut', content: 'with gloves' }, 'note'),
            command('label_add', { name: 'outside' }, 'label'),
            command('reminder_add', { itemId: 'cut', type: 'absolute', due: { date: '2026-11-24T09:00:00' } }, 'bell'),
        ]
        const done = await api.sync({ commands })
        assert.deepEqual(Object.keys(done.tempIdMapping), ['garden', 'roses', 'cut', 'water', 'note', 'label', 'bell'])
        const again = await api.sync({ commands })
        assert.deepEqual(again.tempIdMapping, done.tempIdMapping)

        const changed = await api.sync({ syncToken, resourceTypes: ['items', 'projects', 'sections', 'labels', 'notes', 'reminders'] })
        assert.deepEqual(changed.items.map((item) => item.content), ['Cut them', 'Water them'])
        assert.equal(changed.items[1].parentId, done.tempIdMapping.cut)
        assert.equal(changed.reminders[0].due.date, '2026-11-24T09:00:00')

        const { cut, water } = done.tempIdMapping
        await api.sync({ commands: [command('item_update', { id: water, content: 'Water all of them', labels: ['outside'], priority: 4 })] })
        await api.sync({ commands: [command('item_complete', { id: water })] })
        await api.sync({ commands: [command('item_update_date_complete', { id: cut, due: { date: '2026-11-25', string: 'every day' }, isForward: true })] })
        const later = await api.sync({ syncToken: changed.syncToken, resourceTypes: ['items'] })
        const seen = Object.fromEntries(later.items.map((item) => [item.id, item]))
        assert.equal(seen[water].checked, true)
        assert.equal(seen[cut].checked, false)
        assert.equal(seen[cut].due.date, '2026-11-25')
        await api.sync({ commands: [command('item_uncomplete', { id: water })] })
        await api.sync({ commands: [command('item_delete', { id: cut })] })
        const last = await api.sync({ syncToken: later.syncToken, resourceTypes: ['items', 'notes'] })
        assert.ok(last.items.every((item) => item.isDeleted))
        assert.ok(last.notes.every((note) => note.isDeleted))
    },

    async refusals() {
        const good = command('item_add', { content: 'x' }, 'x')
        const bad = command('item_update', { id: '6XR4GqQQCW6Gv9h4', content: 'y' })
        await assert.rejects(api.sync({ commands: [good, bad] }), (error) => {
            assert.ok(error instanceof sdk.TodoistSyncError)
            assert.equal(error.httpStatusCode, 404)
            assert.equal(error.syncStatus[good.uuid], 'ok')
            assert.equal(error.syncStatus[bad.uuid].errorTag, 'ITEM_NOT_FOUND')
            assert.ok(error.tempIdMapping.x)
            return true
        })
        await assert.rejects(api.getTask('6XR4GqQQCW6Gv9h4'), refused(404))
        await assert.rejects(api.addTask({ content: ' ' }), refused(400))
        await assert.rejects(new sdk.TodoistApi('no token', { baseUrl: here.address }).getTasks(), refused(401))
    },

    async tasks() {
        const project = await api.addProject({ name: 'Garden' })
        const section = await api.addSection({ name: 'Roses', projectId: project.id })
        const added = await api.addTask({
            content: 'Cut them', description: 'with gloves', projectId: project.id, labels: ['outside'], priority: 4, order: 7,
            dueDatetime: '2026-11-24T09:00:00Z', deadlineDate: '2026-12-01', duration: 15, durationUnit: 'minute',
        }, randomUUID())
        assert.equal(added.due.date, '2026-11-24T09:00:00Z')
        assert.deepEqual(added.duration, { amount: 15, unit: 'minute' })
        const changed = await api.updateTask(added.id, { content: 'Cut all of them', dueString: null, deadlineDate: null, assigneeId: null })
        assert.deepEqual([changed.content, changed.due, changed.deadline], ['Cut all of them', null, null])
        assert.equal((await api.moveTask(added.id, { sectionId: section.id })).sectionId, section.id)
        const [moved] = await api.moveTasks([added.id], { projectId: project.id })
        assert.equal(moved.sectionId, null)
        assert.ok(await api.closeTask(added.id))
        const span = { since: '2026-11-23T00:00:00Z', until: '2026-11-24T00:00:00Z' }
        assert.deepEqual((await api.getCompletedTasksByCompletionDate(span)).items.map((item) => item.id), [added.id])
        assert.deepEqual((await api.searchCompletedTasks({ query: 'CUT' })).items.map((item) => item.id), [added.id])
        assert.deepEqual((await api.getCompletedTasksByDueDate(span)).items, [])
        assert.ok(await api.reopenTask(added.id))
        assert.equal((await api.getTask(added.id)).checked, false)
        assert.ok(await api.deleteTask(added.id))
        await assert.rejects(api.getTask(added.id), refused(404))

        const quick = await api.quickAddTask({ text: 'Mow the lawn #Garden @outside p2 tomorrow' })
        assert.deepEqual([quick.content, quick.projectId, quick.labels, quick.priority], ['Mow the lawn', project.id, ['outside'], 3])
        assert.equal(quick.due.date, '2026-11-24')
        const found = await api.getTasksByFilter({ query: 'tomorrow & @outside' })
        assert.deepEqual(found.results.map((task) => task.id), [quick.id])

        const seen = []
        let cursor = null
        do {
            const page = await api.getTasks({ limit: 2, cursor })
            assert.ok(page.results.length <= 2)
            seen.push(...page.results.map((task) => task.id))
            cursor = page.nextCursor
        } while (cursor && seen.length < 20)
        assert.equal(new Set(seen).size, 5)
        assert.equal((await api.getTasks({ ids: seen.slice(0, 2) })).results.length, 2)
    },

    async others() {
        const project = await api.addProject({ name: 'Garden', description: 'all of it', viewStyle: 'board' })
        assert.equal((await api.updateProject(project.id, { name: 'The garden', isFavorite: true })).isFavorite, true)
        assert.equal((await api.searchProjects({ query: 'garden' })).results.length, 1)
        assert.deepEqual((await api.getProjectCollaborators(project.id)).results, [])
        const section = await api.addSection({ name: 'Roses', projectId: project.id, description: 'red ones', order: 2 })
        assert.deepEqual([section.description, section.sectionOrder], ['red ones', 2])
        assert.equal((await api.updateSection(section.id, { description: null })).description, null)
        assert.equal((await api.archiveSection(section.id)).isArchived, true)
        assert.equal((await api.unarchiveSection(section.id)).isArchived, false)
        assert.equal((await api.searchSections({ query: 'ros', projectId: project.id })).results.length, 1)
        const label = await api.addLabel({ name: 'outside', order: 3, color: 'lime_green' })
        assert.equal((await api.updateLabel(label.id, { order: 4 })).order, 4)
        assert.equal((await api.searchLabels({ query: 'out' })).results.length, 1)
        const task = await api.addTask({ content: 'Mow', projectId: project.id, labels: ['theirs'], dueDatetime: '2026-11-24T09:00:00Z' })
        assert.deepEqual((await api.getSharedLabels({ omitPersonal: true })).results, ['theirs'])
        assert.ok(await api.renameSharedLabel({ name: 'theirs', newName: 'ours' }))
        assert.ok(await api.removeSharedLabel({ name: 'ours' }))
        const attachment = { fileName: 'lawn.png', fileUrl: 'https://files.example/lawn.png', fileType: 'image/png', resourceType: 'file' }
        const comment = await api.addComment({ taskId: task.id, content: 'soon', attachment })
        assert.equal(comment.fileAttachment.fileUrl, 'https://files.example/lawn.png')
        assert.equal((await api.updateComment(comment.id, { content: 'later' })).content, 'later')
        assert.equal((await api.getComments({ taskId: task.id })).results.length, 1)
        const other = await api.addComment({ projectId: project.id, content: 'all of it' })
        assert.equal((await api.getComment(other.id)).projectId, project.id)
        const bell = await api.addReminder({ taskId: task.id, reminderType: 'relative', minuteOffset: 30 })
        assert.equal((await api.updateReminder(bell.id, { reminderType: 'relative', minuteOffset: 10 })).minuteOffset, 10)
        const absolute = await api.addReminder({ taskId: task.id, reminderType: 'absolute', due: { date: '2026-11-24T08:00:00' } })
        assert.equal((await api.getReminders({ taskId: task.id })).results.length, 2)
        assert.ok(await api.deleteReminder(absolute.id))
        assert.ok(await api.deleteComment(comment.id))
        assert.ok(await api.deleteLabel(label.id))
        assert.ok(await api.deleteSection(section.id))
        assert.equal((await api.archiveProject(project.id)).isArchived, true)
        assert.deepEqual((await api.getArchivedProjects()).results.map((each) => each.id), [project.id])
        assert.equal((await api.unarchiveProject(project.id)).isArchived, false)
        assert.ok(await api.deleteProject(project.id))
    },

    async webhooks() {
        for (const { body, signature } of here.deliveries) {
            assert.ok(await sdk.verifyWebhookSignature({ rawBody: body, signature, clientSecret: here.clientSecret }))
            assert.equal(await sdk.verifyWebhookSignature({ rawBody: body, signature, clientSecret: 'another' }), false)
            sdk.parseWebhookPayload(JSON.parse(body))
        }
    },
}

await parts[process.argv[2]]()
